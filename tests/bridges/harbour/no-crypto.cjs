// The library that matrix-appservice-bridge would encrypt with comes from no package registry. Without it nothing can be
// loaded, so there is something in its place that does nothing: this bridge doesn't encrypt.

const Module = require("node:module");

const ABSENT = "@matrix-org/matrix-sdk-crypto-nodejs";
const load = Module._load;
const nothing = new Proxy(function () {}, { get: () => nothing });

Module._load = function (name, ...rest) {
    return name === ABSENT ? nothing : load.call(this, name, ...rest);
};
