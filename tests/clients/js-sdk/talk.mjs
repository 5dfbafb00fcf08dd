// Two people on two Rhizomes, with matrix-js-sdk.
//
// usage: node talk.mjs URL_OF_ALICES_SERVER URL_OF_BOBS_SERVER
//
// Alice makes a room, writes into it and invites Bob, who is on the other server. He joins, both
// talk, and Bob pages back to what was written before he came. Fails with a sentence when something
// doesn't arrive.

import { Preset } from "matrix-js-sdk";
import { bringIn, hears, logIn, pageBack, register, say, tell, texts } from "./people.mjs";

const NOTES = 25; // messages before Bob comes: more than one page

async function person(server, name) {
    await register(server, name);
    return logIn(server, name);
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

    await bringIn(alice, roomId, bob);
    await say(alice, roomId, "Welcome, Bob!");
    await hears(bob, roomId, "Welcome, Bob!");
    await say(bob, roomId, "Glad to be here.");
    await hears(alice, roomId, "Glad to be here.");

    const pages = await pageBack(bob, roomId);
    const events = bob.getRoom(roomId).getLiveTimeline().getEvents();
    if (events[0].getType() !== "m.room.create") {
        throw new Error(`Bob's history begins with ${events[0].getType()} instead of the room's creation`);
    }
    const read = texts(bob, roomId);
    if (read.join() !== [...notes, "Welcome, Bob!", "Glad to be here."].join()) {
        throw new Error(`Bob reads another history than was written: ${read.join()}`);
    }
    console.log(`js-sdk: both talk; Bob reads all ${events.length} events of the room, ${pages} pages back`);
}

tell("js-sdk", async (alicesServer, bobsServer) => {
    const [alice, bob] = await Promise.all([person(alicesServer, "alice"), person(bobsServer, "bob")]);
    await story(alice, bob);
    await Promise.all([alice.logout(true), bob.logout(true)]);
});
