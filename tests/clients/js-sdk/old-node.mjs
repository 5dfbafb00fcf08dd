// What matrix-js-sdk uses and Node.js lacked before version 22 (Debian 12 has 18). Loaded ahead of
// the program: node --import ./old-node.mjs talk.mjs …

import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto;

Promise.withResolvers ??= function () {
    const parts = {};
    parts.promise = new this((resolve, reject) => Object.assign(parts, { resolve, reject }));
    return parts;
};
