// A bridge with matrix-appservice-bridge to a harbour: every room there is one here, by an alias, and what is said in one
// is said again by a sailor who comes for it.
//
// HARBOUR_SERVER and HARBOUR_DOMAIN say where the homeserver is and what it is called; the rest is as with all bridges
// of this kind (--generate-registration, --port).

require("./no-crypto.cjs");
const { AppServiceRegistration, Bridge, Cli } = require("matrix-appservice-bridge");

const { HARBOUR_SERVER: homeserverUrl, HARBOUR_DOMAIN: domain } = process.env;
const PREFIX = "harbour_";
const ghost = (name) => `@${PREFIX}${name}:${domain}`;

function generateRegistration(registration, done) {
    registration.setId("harbour");
    registration.setHomeserverToken(AppServiceRegistration.generateToken());
    registration.setAppServiceToken(AppServiceRegistration.generateToken());
    registration.setSenderLocalpart("harbourmaster");
    registration.addRegexPattern("users", `@${PREFIX}.*`, true);
    registration.addRegexPattern("aliases", `#${PREFIX}.*`, true);
    done(registration);
}

async function run(port, _config, registration) {
    const bridge = new Bridge({
        homeserverUrl,
        domain,
        registration,
        disableStores: true,
        controller: {
            onUserQuery: () => ({}),
            onAliasQuery: (_alias, localpart) => ({
                creationOpts: { room_alias_name: localpart, preset: "public_chat", name: localpart },
            }),
            onEvent: (request) => take(bridge, request.getData()),
        },
    });
    await bridge.run(port);
    console.log("the harbour is open");
}

async function take(bridge, event) {
    const { room_id: room, sender, state_key: key, content } = event;
    if (sender.startsWith(`@${PREFIX}`)) return;
    if (event.type === "m.room.member" && content.membership === "invite" && key.startsWith(`@${PREFIX}`)) {
        await bridge.getIntent(key).join(room);
    }
    if (event.type === "m.room.message") {
        await bridge.getIntent(ghost("sailor")).sendText(room, `ahoy: ${content.body}`);
    }
}

new Cli({ registrationPath: "registration.yaml", generateRegistration, run }).run();
