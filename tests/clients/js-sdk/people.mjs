// People with accounts made for the story, and the devices that they log in with.

import {
    ClientEvent,
    createClient,
    MatrixEventEvent,
    RoomEvent,
    RoomMemberEvent,
    SyncState,
} from "matrix-js-sdk";
import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import { RustBackupManager } from "matrix-js-sdk/lib/rust-crypto/backup.js";

const PASSWORD = "correct horse battery staple";
export const PATIENCE = 30_000; // milliseconds that anything may take to arrive
export const PAGE = 10; // events at a time

// The library tells a lot on the console; VERBOSE=1 shows it.
if (!process.env.VERBOSE) {
    for (const level of ["debug", "info", "warn", "error"]) console[level] = () => {};
}
// Backups begin at once, not within ten seconds: no crowd of clients does so here.
RustBackupManager.maxBackupLoopStartDelayMillis = 0;

// What may have changed something that a story waits for.
const NEWS = [
    ClientEvent.Sync,
    MatrixEventEvent.Decrypted,
    RoomEvent.MyMembership,
    RoomEvent.Timeline,
    RoomMemberEvent.Membership,
    ...Object.values(CryptoEvent),
];

// What was uploaded: kept here too, so that what goes by way of media can be tried although one of the
// servers keeps none.
const shelf = new Map();
export let shelfUsed = false;

async function fetchFn(resource, options) {
    const answer = await fetch(resource, options);
    const { pathname, host } = new URL(resource);
    if (pathname.endsWith("/media/v3/upload") && (answer.ok || answer.status === 404)) {
        const made = { content_uri: `mxc://${host}/shelf-${shelf.size}` };
        const { content_uri: uri } = answer.ok ? await answer.clone().json() : made;
        shelf.set(uri.split("/").at(-1), options.body);
        shelfUsed ||= !answer.ok;
        return answer.ok ? answer : Response.json(made);
    }
    const found = shelf.get(pathname.split("/").at(-1));
    if (!found || answer.ok) return answer;
    shelfUsed = true;
    return new Response(found);
}

// Makes an account.
export async function register(baseUrl, username) {
    const auth = { type: "m.login.dummy" };
    await createClient({ baseUrl }).registerRequest({ username, password: PASSWORD, auth, inhibit_login: true });
}

// Logs in with the account's password, as a new device. With `cryptoCallbacks` it encrypts.
async function device(baseUrl, user, cryptoCallbacks) {
    const session = await createClient({ baseUrl }).loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.user", user },
        password: PASSWORD,
    });
    const client = createClient({
        baseUrl,
        userId: session.user_id,
        accessToken: session.access_token,
        deviceId: session.device_id,
        cryptoCallbacks,
        fetchFn,
    });
    if (cryptoCallbacks) await client.initRustCrypto({ useIndexedDB: false });
    return client;
}

async function start(client, options) {
    await client.startClient(options);
    await until(client, "the first sync", () => client.getSyncState() === SyncState.Prepared);
    return client;
}

// A new device whose client syncs all the time.
export async function logIn(...who) {
    return start(await device(...who), { initialSyncLimit: PAGE });
}

// A new device whose client uses sliding sync: first a window of the newest rooms, then all.
export async function logInSliding(...who) {
    const client = await device(...who);
    const room = { required_state: [["*", "*"], ["m.room.member", "$LAZY"]], timeline_limit: PAGE };
    const lists = new Map([["all", { ranges: [[0, 9]], ...room }]]);
    const slidingSync = new SlidingSync(client.baseUrl, lists, room, client, PATIENCE);
    await start(client, { slidingSync });
    slidingSync.setListRanges("all", [[0, 999]]);
    return client;
}

// Waits for news of the client, also of the kinds in `more`, after which `check` is true, unless it is already.
export async function until(client, what, check, ...more) {
    const kinds = [...NEWS, ...more];
    let listener, timer;
    const arrived = new Promise((resolve, reject) => {
        const late = () => reject(new Error(`${client.getUserId()} didn't get ${what} within ${PATIENCE} ms`));
        timer = setTimeout(late, PATIENCE);
        listener = async () => {
            try {
                if (await check()) resolve();
            } catch (error) {
                reject(error);
            }
        };
        for (const news of kinds) client.on(news, listener);
        listener();
    });
    await arrived.finally(() => {
        clearTimeout(timer);
        for (const news of kinds) client.off(news, listener);
    });
}

export function say(client, roomId, body) {
    return client.sendTextMessage(roomId, body);
}

// The messages that the client can read in the room.
export function messages(client, roomId) {
    const events = client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? [];
    return events.filter((event) => event.getType() === "m.room.message");
}

export function texts(client, roomId) {
    return messages(client, roomId).map((event) => event.getContent().body);
}

// Waits for a message.
export async function hears(client, roomId, body) {
    await until(client, `the message “${body}”`, () => texts(client, roomId).includes(body));
}

// Pages back to the beginning of the room; how many pages that was.
export async function pageBack(client, roomId) {
    const room = client.getRoom(roomId);
    let pages = 0;
    while (room.oldState.paginationToken !== null) {
        await client.scrollback(room, PAGE);
        pages += 1;
    }
    return pages;
}

// Waits until somebody's membership is known.
export async function untilMember(client, roomId, userId, membership) {
    const known = () => client.getRoom(roomId)?.getMember(userId)?.membership === membership;
    await until(client, `the news that the membership of ${userId} is “${membership}”`, known);
}

// Invites somebody, who joins; the host and others come to know.
export async function bringIn(host, roomId, guest, ...others) {
    await host.invite(roomId, guest.getUserId());
    const invited = () => guest.getRoom(roomId)?.getMyMembership() === "invite";
    await until(guest, `the invite of ${host.getUserId()}`, invited);
    await guest.joinRoom(roomId);
    for (const client of [guest, host, ...others]) await untilMember(client, roomId, guest.getUserId(), "join");
}

// Tells a story within bounds of time, and ends the process: with a sentence if it fails.
export function tell(name, story) {
    const fail = (error) => {
        process.stderr.write(`${name}: ${error.message}\n`);
        process.exit(1);
    };
    setTimeout(() => fail(new Error(`not done within ${5 * PATIENCE} ms`)), 5 * PATIENCE).unref();
    story(...process.argv.slice(2)).then(() => process.exit(0), fail);
}
