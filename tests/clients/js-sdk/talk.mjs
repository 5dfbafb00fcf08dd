// Two people on two Rhizomes, with matrix-js-sdk.
//
// usage: node talk.mjs URL_OF_ALICES_SERVER URL_OF_BOBS_SERVER
//
// Alice makes a room, writes into it and invites Bob, who is on the other server. He joins, both
// talk, and Bob pages back to what was written before he came. Fails with a sentence when something
// doesn't arrive.

import { ClientEvent, createClient, MsgType, Preset, RoomEvent, SyncState } from "matrix-js-sdk";

const PASSWORD = "correct horse battery staple";
const PATIENCE = 30_000; // milliseconds that anything may take to arrive
const NOTES = 25; // messages before Bob comes: more than one page
const PAGE = 10;

// The library tells a lot on the console; VERBOSE=1 shows it.
if (!process.env.VERBOSE) {
    for (const level of ["debug", "info", "warn", "error"]) console[level] = () => {};
}

// A person logged in on a server, with an account made for it, whose client syncs all the time.
async function person(baseUrl, user) {
    const newcomer = createClient({ baseUrl });
    const auth = { type: "m.login.dummy" };
    await newcomer.registerRequest({ username: user, password: PASSWORD, auth, inhibit_login: true });
    const session = await newcomer.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user },
        password: PASSWORD,
    });
    const client = createClient({
        baseUrl,
        userId: session.user_id,
        accessToken: session.access_token,
        deviceId: session.device_id,
    });
    await client.startClient({ initialSyncLimit: PAGE });
    await until(client, ClientEvent.Sync, "the first sync", () => client.getSyncState() === SyncState.Prepared);
    return client;
}

// Waits for an event of the client after which `check` is true, unless it is already.
async function until(client, event, what, check) {
    let listener, timer;
    const arrived = new Promise((resolve, reject) => {
        const late = () => reject(new Error(`${client.getUserId()} didn't get ${what} within ${PATIENCE} ms`));
        timer = setTimeout(late, PATIENCE);
        listener = () => check() && resolve();
        client.on(event, listener);
        listener();
    });
    await arrived.finally(() => {
        clearTimeout(timer);
        client.off(event, listener);
    });
}

function say(client, roomId, body) {
    return client.sendMessage(roomId, { msgtype: MsgType.Text, body });
}

function messages(client, roomId) {
    const events = client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? [];
    return events.filter((event) => event.getType() === "m.room.message").map((event) => event.getContent().body);
}

function hears(client, roomId, body) {
    const said = () => messages(client, roomId).includes(body);
    return until(client, RoomEvent.Timeline, `the message “${body}”`, said);
}

// Pages back to the beginning of the room; how many pages that was.
async function pageBack(client, roomId) {
    const room = client.getRoom(roomId);
    let pages = 0;
    while (room.oldState.paginationToken !== null) {
        await client.scrollback(room, PAGE);
        pages += 1;
    }
    return pages;
}

async function story(alice, bob) {
    const { room_id: roomId } = await alice.createRoom({
        room_alias_name: "garden",
        name: "Garden",
        preset: Preset.PrivateChat,
    });
    const alias = `#garden:${alice.getDomain()}`;
    const found = await bob.getRoomIdForAlias(alias);
    if (found.room_id !== roomId) {
        throw new Error(`${alias} is ${found.room_id} for Bob and ${roomId} for Alice`);
    }
    const notes = Array.from({ length: NOTES }, (_, number) => `note ${number}`);
    for (const note of notes) {
        await say(alice, roomId, note);
    }

    await alice.invite(roomId, bob.getUserId());
    const invited = () => bob.getRoom(roomId)?.getMyMembership() === "invite";
    await until(bob, RoomEvent.MyMembership, "Alice's invite", invited);
    await bob.joinRoom(roomId);

    await say(alice, roomId, "Welcome, Bob!");
    await hears(bob, roomId, "Welcome, Bob!");
    await say(bob, roomId, "Glad to be here.");
    await hears(alice, roomId, "Glad to be here.");

    const pages = await pageBack(bob, roomId);
    const events = bob.getRoom(roomId).getLiveTimeline().getEvents();
    if (events[0].getType() !== "m.room.create") {
        throw new Error(`Bob's history begins with ${events[0].getType()} instead of the room's creation`);
    }
    const read = messages(bob, roomId);
    if (read.join() !== [...notes, "Welcome, Bob!", "Glad to be here."].join()) {
        throw new Error(`Bob reads another history than was written: ${read.join()}`);
    }
    console.log(`js-sdk: both talk; Bob reads all ${events.length} events of the room, ${pages} pages back`);
}

async function main([alicesServer, bobsServer]) {
    const [alice, bob] = await Promise.all([person(alicesServer, "alice"), person(bobsServer, "bob")]);
    await story(alice, bob);
    await Promise.all([alice.logout(true), bob.logout(true)]);
}

function fail(error) {
    process.stderr.write(`js-sdk: ${error.message}\n`);
    process.exit(1);
}

setTimeout(() => fail(new Error(`not done within ${5 * PATIENCE} ms`)), 5 * PATIENCE).unref();
main(process.argv.slice(2)).then(() => process.exit(0), fail);
