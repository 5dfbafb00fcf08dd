// Encryption between people of two servers, with matrix-js-sdk and its Rust crypto.
//
// usage: node crypto.mjs URL_OF_ADAS_SERVER URL_OF_THE_OTHERS_SERVER
//
// Each scenario below goes on from where the one before it ended. Fails with a sentence when something
// can't be read or doesn't arrive.

import { EventType, HistoryVisibility, Preset } from "matrix-js-sdk";
import { CryptoEvent, VerificationPhase, VerificationRequestEvent, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { bringIn, hears, logIn, messages, pageBack, register, say, shelfUsed, tell, texts, until, untilMember } from "./people.mjs";

// What opens somebody's secret storage: kept here in place of a person who remembers it.
class Vault {
    getSecretStorageKey = async ({ keys }) => [Object.keys(keys)[0], this.key];
    cacheSecretStorageKey = (_id, _info, key) => (this.key = key);
}

const SESSIONS = 3; // that Ada knows when her second device comes: two of her own and Ben's

function ensure(condition, sentence) {
    if (!condition) throw new Error(sentence);
}

async function encryptedRoom(host, name, visibility) {
    const state = (type, content) => ({ type, state_key: "", content });
    const { room_id: roomId } = await host.createRoom({
        name,
        preset: Preset.PrivateChat,
        initial_state: [
            state(EventType.RoomEncryption, { algorithm: "m.megolm.v1.aes-sha2" }),
            state(EventType.RoomHistoryVisibility, { history_visibility: visibility }),
        ],
    });
    await until(host, `the room “${name}”`, () => host.getRoom(roomId)?.hasEncryptionStateEvent());
    return roomId;
}

// Says something that the listeners get encrypted and can read; the session that encrypted it.
async function saySecretly(speaker, roomId, body, ...listeners) {
    await say(speaker, roomId, body);
    let session;
    for (const listener of [speaker, ...listeners]) {
        await hears(listener, roomId, body);
        const message = messages(listener, roomId).find((event) => event.getContent().body === body);
        session = message.getWireContent().session_id;
        ensure(message.isEncrypted() && session, `${listener.getUserId()} got “${body}” in plain text`);
    }
    return session;
}

// The devices of somebody as another one knows them.
async function devices(client, owner) {
    const known = await client.getCrypto().getUserDeviceInfo([owner], true);
    return [...known.get(owner).values()];
}

function untilGone(client, owner, deviceId) {
    return until(client, `the news that ${owner}'s device ${deviceId} is gone`, async () => {
        const known = await devices(client, owner);
        return known.every((device) => device.deviceId !== deviceId);
    });
}

// All make the keys that sign their devices, the first time without their password; others see them.
async function crossSigning({ ada, ben, cleo }) {
    for (const client of [ada, ben, cleo]) {
        const authUploadDeviceSigningKeys = (upload) => upload(null);
        await client.getCrypto().bootstrapCrossSigning({ authUploadDeviceSigningKeys });
        ensure(await client.getCrypto().isCrossSigningReady(), `${client.getUserId()} has no cross-signing keys`);
    }
    for (const [client, other] of [[ben, ada], [ada, ben], [cleo, ben]]) {
        const id = other.getUserId();
        const there = await client.getCrypto().userHasCrossSigningKeys(id, true);
        ensure(there, `${client.getUserId()} finds no cross-signing keys of ${id}`);
    }
}

// Waits until somebody knows another one's device as signed by its owner.
function signedDevice(client, owner, deviceId) {
    const crypto = client.getCrypto();
    const id = owner.getUserId();
    return until(client, `${id}'s signed device ${deviceId}`, async () => {
        const status = await crypto.getDeviceVerificationStatus(id, deviceId);
        return status?.signedByOwner;
    });
}

// Ada puts her keys into secret storage and starts a backup.
async function secretStorageAndBackup({ ada }) {
    const crypto = ada.getCrypto();
    const key = await crypto.createRecoveryKeyFromPassphrase();
    await crypto.bootstrapSecretStorage({
        createSecretStorageKey: async () => key,
        setupNewSecretStorage: true,
        setupNewKeyBackup: true,
    });
    const stored = () => crypto.isSecretStorageReady();
    await until(ada, "her secrets in the account data", stored);
    await until(ada, "a backup that is in use", () => crypto.getActiveSessionBackupVersion());
}

// A room of both servers, messages both ways.
async function bothTalk({ ada, ben }) {
    const garden = await encryptedRoom(ada, "Garden", HistoryVisibility.Joined);
    await bringIn(ada, garden, ben);
    await saySecretly(ada, garden, "Welcome, Ben!", ben);
    await saySecretly(ben, garden, "Glad to be here.", ada);
    await signedDevice(ben, ada, ada.getDeviceId());
    await signedDevice(ada, ben, ben.getDeviceId());
    return garden;
}

// Cleo comes later and reads what is said from then on, and nothing from before.
async function joinsLater({ ada, ben, cleo }, garden) {
    await bringIn(ada, garden, cleo, ben);
    await saySecretly(ben, garden, "Hello, Cleo!", ada, cleo);
    const session = await saySecretly(ada, garden, "We were just talking.", ben, cleo);
    ensure(!texts(cleo, garden).includes("Welcome, Ben!"), "Cleo reads what was said before she came");
    return session;
}

// When somebody has left, the others go on with keys that they never had.
async function memberLeaves({ ada, ben, cleo }, garden, sessionBefore) {
    await cleo.leave(garden);
    for (const client of [ada, ben]) await untilMember(client, garden, cleo.getUserId(), "leave");
    const session = await saySecretly(ada, garden, "Now we are two.", ben);
    ensure(session !== sessionBefore, "Ada goes on with a session that Cleo has");
}

// Who is invited gets the keys to what was said before, where the room's history is shared (MSC4268).
async function historySharing({ ada, cleo }) {
    const library = await encryptedRoom(ada, "Library", HistoryVisibility.Shared);
    await saySecretly(ada, library, "An old book.");
    await bringIn(ada, library, cleo);
    await pageBack(cleo, library);
    await hears(cleo, library, "An old book.");
}

// Ada logs in with a second device, which the first verifies by emoji. It gets the secrets from there, and
// reads history from the backup.
async function newDevice({ ada, ben }, garden, north) {
    const backedUp = async () => (await ada.getCrypto().checkKeyBackupAndEnable()).backupInfo.count >= SESSIONS;
    await until(ada, `${SESSIONS} sessions' keys into her backup`, backedUp);
    const second = await logIn(north, "ada", {});
    await compareEmoji(second, ada);

    const crypto = second.getCrypto();
    await until(second, "the backup's key from the first device", () => crypto.getSessionBackupPrivateKey());
    await pageBack(second, garden);
    await hears(second, garden, "Glad to be here.");
    await hears(second, garden, "We were just talking.");
    await signedDevice(ben, ada, second.getDeviceId());
    await saySecretly(ben, garden, "Hello, new device!", ada, second);
    return second;
}

function untilKnown(client, owner, deviceId) {
    return until(client, `the news that ${owner} has the device ${deviceId}`, async () => {
        const known = await devices(client, owner);
        return known.some((device) => device.deviceId === deviceId);
    });
}

// One device asks to be verified, the other accepts; both see the same emoji. The library drops what a device asks
// that it doesn't know yet, for ever.
async function compareEmoji(asking, asked) {
    let received;
    await untilKnown(asked, asking.getUserId(), asking.getDeviceId());
    asked.once(CryptoEvent.VerificationRequestReceived, (request) => (received = request));
    const request = await asking.getCrypto().requestOwnUserVerification();
    await until(asked, "the request to verify a device", () => received);
    await received.accept();
    await untilPhase(request, VerificationPhase.Ready);
    const verifiers = [await request.startVerification("m.sas.v1")];
    await untilPhase(received, VerificationPhase.Started);
    verifiers.push(received.verifier);
    const done = Promise.all(verifiers.map((verifier) => verifier.verify()));
    const [one, other] = await Promise.race([Promise.all(verifiers.map(shown)), done]);
    const [ours, theirs] = [one, other].map(({ sas }) => sas.emoji.map(([emoji]) => emoji).join(""));
    ensure(ours === theirs, `one device shows ${ours}, the other ${theirs}`);
    await Promise.all([one.confirm(), other.confirm()]);
    await done;
}

function untilPhase(request, phase) {
    return new Promise((resolve, reject) => {
        const check = () => {
            if (request.phase === phase) resolve();
            if (request.phase === VerificationPhase.Cancelled) {
                reject(new Error(`a verification is cancelled: ${request.cancellationCode}`));
            }
        };
        request.on(VerificationRequestEvent.Change, check);
        check();
    });
}

async function shown(verifier) {
    return verifier.getShowSasCallbacks() ?? new Promise((resolve) => verifier.once(VerifierEvent.ShowSas, resolve));
}

// Who logs out is not written to any more: the others learn that the device is gone.
async function logsOut(client, ...others) {
    const deviceId = client.getDeviceId();
    await client.logout(true);
    for (const other of others) await untilGone(other, client.getUserId(), deviceId);
}

// Ada leaves a device with the server and logs out everywhere. What Ben writes then is for that device, and
// whoever opens her secret storage reads it.
async function dehydratedDevice({ ada, ben }, garden, north, vault) {
    ensure(await ada.getCrypto().isDehydrationSupported(), "the server knows no dehydrated devices");
    await ada.getCrypto().startDehydration();
    const left = async () => (await devices(ben, ada.getUserId())).some((device) => device.dehydrated);
    await until(ben, "Ada's dehydrated device", left);
    await logsOut(ada, ben);
    await saySecretly(ben, garden, "While you were away.");

    const back = await logIn(north, "ada", vault);
    let keys = 0;
    back.on(CryptoEvent.RehydrationProgress, (count) => (keys = count));
    ensure(await back.getCrypto().userHasCrossSigningKeys(), "Ada doesn't find her own cross-signing keys");
    await back.getCrypto().bootstrapCrossSigning({});
    await back.getCrypto().startDehydration();
    ensure(keys > 0, "Ada's dehydrated device got no keys");
    await hears(back, garden, "While you were away.");
    return back;
}

tell("js-sdk", async (north, south) => {
    await Promise.all([register(north, "ada"), register(south, "ben"), register(south, "cleo")]);
    const vault = new Vault();
    const [ada, ben, cleo] = await Promise.all([
        logIn(north, "ada", vault),
        logIn(south, "ben", {}),
        logIn(south, "cleo", {}),
    ]);
    const people = { ada, ben, cleo };
    await crossSigning(people);
    await secretStorageAndBackup(people);
    const garden = await bothTalk(people);
    const session = await joinsLater(people, garden);
    await memberLeaves(people, garden, session);
    await historySharing(people);
    const second = await newDevice(people, garden, north);
    await logsOut(second, ada, ben);
    const back = await dehydratedDevice(people, garden, north, vault);
    await Promise.all([back, ben, cleo].map((client) => client.logout(true)));
    const aside = shelfUsed ? ", with media kept aside" : "";
    console.log(`js-sdk: cross-signing, backup, rooms of both servers, verification, dehydration, history sharing${aside}`);
});
