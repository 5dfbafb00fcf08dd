// Two people on two homeservers, with matrix-js-sdk over sliding sync.
//
// usage: node sliding.mjs URL_OF_ALICES_SERVER URL_OF_BOBS_SERVER
//
// Alice makes an encrypted room and invites Bob, who is on the other server. Both talk; Bob reads a receipt and
// sees Alice type; a device of his that comes later sees every room, and what is said from then on.

import { EventType, Preset, RoomEvent, RoomMemberEvent } from "matrix-js-sdk";
import { bringIn, hears, logInSliding, register, say, tell, texts, until } from "./people.mjs";

const ROOMS = 25; // more than the first window shows

async function story(alice, bob, bobsServer) {
    const { room_id: garden } = await alice.createRoom({
        name: "Garden",
        preset: Preset.PrivateChat,
        initial_state: [
            { type: EventType.RoomEncryption, state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } },
        ],
    });
    await until(alice, "the room that she made", () => alice.getRoom(garden)?.name === "Garden");
    await bringIn(alice, garden, bob);
    const said = [];
    for (const [speaker, listener, text] of [
        [alice, bob, "Welcome, Bob!"],
        [bob, alice, "Glad to be here."],
    ]) {
        said.push(text);
        await say(speaker, garden, text);
        await hears(listener, garden, text);
    }
    for (const client of [alice, bob]) {
        const read = texts(client, garden);
        if (read.join() !== said.join()) {
            throw new Error(`${client.getUserId()} reads ${read.join()}`);
        }
    }

    const typing = new Promise((resolve) => {
        bob.on(RoomMemberEvent.Typing, (_, member) => member.userId === alice.getUserId() && resolve());
    });
    await alice.sendTyping(garden, true, 20_000);
    await typing;
    const last = alice.getRoom(garden).getLiveTimeline().getEvents().at(-1);
    await alice.sendReadReceipt(last);
    const seen = () => bob.getRoom(garden).getEventReadUpTo(alice.getUserId()) === last.getId();
    await until(bob, "Alice's receipt", seen, RoomEvent.Receipt);

    const rooms = [garden];
    for (let number = 0; number < ROOMS; number += 1) {
        const { room_id: id } = await bob.createRoom({ name: `Room ${number}`, preset: Preset.PrivateChat });
        rooms.push(id);
    }
    const tablet = await logInSliding(bobsServer, "bob-slides-js", {});
    await until(tablet, "every room", () => rooms.every((id) => tablet.getRoom(id)?.name));
    // Who doesn't know of a device yet can't encrypt for it.
    await until(alice, "Bob's later device", async () => {
        const known = await alice.getCrypto().getUserDeviceInfo([bob.getUserId()]);
        return known.get(bob.getUserId())?.has(tablet.getDeviceId());
    });
    await say(alice, garden, "Hello, tablet!");
    await hears(tablet, garden, "Hello, tablet!");
    await tablet.logout(true);
    console.log("js-sdk: both talk encrypted over sliding sync; a later device sees every room");
}

tell("js-sdk, sliding sync", async (alicesServer, bobsServer) => {
    await register(alicesServer, "alice-slides-js");
    await register(bobsServer, "bob-slides-js");
    const alice = await logInSliding(alicesServer, "alice-slides-js", {});
    const bob = await logInSliding(bobsServer, "bob-slides-js", {});
    await story(alice, bob, bobsServer);
    await Promise.all([alice.logout(true), bob.logout(true)]);
});
