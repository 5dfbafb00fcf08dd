// People who register by the pages that a Rhizome has for clients which don't know a step, in Chromium.
//
// usage: node register.mjs PATH_TO_RHIZOME
//
// Ada's client opens each page in a window and is told by it that its step is done; she follows the link in her mail, and
// sets another password by a link later. Bea has switched JavaScript off and types the code. Each page has to be whole:
// named, labelled, no wider than a small phone, loading nothing, and nothing of it against the policy that it came with.
// PICTURES=FOLDER keeps a picture of each.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { join } from "node:path";
import { Browser } from "./browser.mjs";
import { MailServer } from "./mail.mjs";
import { Rhizome } from "./rhizome.mjs";

const PASSWORD = "correct horse battery staple";
const TOKEN = "m.login.registration_token", EMAIL = "m.login.email.identity", TERMS = "m.login.terms";
const NARROW = 320, WIDE = 1000; // CSS pixels
// What the console says of a page that was refused: it is shown all the same.
const REFUSED = /Failed to load resource: the server responded with a status of 400/;

let browser, mail, server, client, token;
let seen = 0; // pages

// A client's page, from elsewhere, which hears what the windows say that it opens; and the policy that is to be accepted.
async function startClient() {
    const page = `<!doctype html><html lang="en"><title>A client</title><link rel="icon" href="data:,">
        <script>heard = []; onmessage = ({ data, origin }) => heard.push([data, origin]);</script></html>`;
    const http = createServer((_, answer) => answer.setHeader("content-type", "text/html").end(page));
    await new Promise((listens) => http.listen(0, "127.0.0.1", listens));
    return { url: `http://127.0.0.1:${http.address().port}`, stop: () => http.close() };
}

// Looks whether the page that is shown is whole.
async function look(name) {
    seen += 1;
    const wrong = (what) => `${name}: ${what}`;
    assert.ok(await browser.title(), wrong("it has no title"));
    assert.equal(await browser.run("return document.documentElement.lang"), "en", wrong("in no language"));
    assert.equal((await browser.all("h1")).length, 1, wrong("what is it called?"));
    assert.equal((await browser.all("main")).length, 1, wrong("where does it begin?"));
    for (const input of await browser.all("input:not([type=hidden]), button, a")) {
        assert.ok(await browser.label(input), wrong("something to use has no name"));
    }
    assert.deepEqual(await browser.all("form:not(:has([type=submit]))"), [], wrong("a form can't be sent"));
    const loaded = await browser.run("return performance.getEntriesByType('resource').map(({ name }) => name)");
    assert.deepEqual(loaded, [], wrong("it loads something"));
    const complaints = (await browser.console()).map(({ message }) => message);
    assert.deepEqual(complaints.filter((text) => !REFUSED.test(text)), [], wrong("the browser complains"));
    for (const width of [NARROW, WIDE]) {
        await browser.width(width);
        const wide = await browser.run("return document.documentElement.scrollWidth");
        assert.ok(wide <= width, wrong(`it is ${wide} pixels wide in a window of ${width}`));
        if (process.env.PICTURES) {
            await browser.picture(join(process.env.PICTURES, `${seen} ${name} ${width}.png`));
        }
    }
}

const send = () => browser.click("form [type=submit]");
const alert = () => browser.text("[role=alert]");

const steps = {
    async [TOKEN]({ hasScripts }) {
        await look("token");
        if (hasScripts) await attack();
        await browser.type("#token", "a-wrong-one");
        await send();
        assert.match(await alert(), /token/i);
        await look("token, wrong");
        await browser.leave(() => browser.type("#token", `${token}\uE007`)); // the key Enter
    },

    // The address is given wrongly at first.
    async [EMAIL](person) {
        await look("address");
        await browser.type("#address", "nobody@example.org");
        await send();
        await look("code");
        await browser.type("#code", "wrong");
        await send();
        assert.match(await alert(), /code is wrong/);
        await look("code, wrong");
        await browser.click("main a");
        await browser.type("#address", person.address);
        await send();
        const { code, link } = await mail.next(person.address);
        if (person.hasScripts) await confirm(link);
        else await browser.type("#code", ` ${code.toUpperCase()}`);
        await send();
    },

    async [TERMS]() {
        await look("terms");
        const policy = await browser.run("return document.querySelector('main li a').href");
        assert.equal(policy, `${client.url}/privacy`);
        assert.equal(await browser.text("main li a"), "Privacy policy <of ours>");
        await send();
    },
};

// A script that gets onto the page isn't run.
async function attack() {
    await browser.run(`const script = document.createElement("script");
        script.textContent = "window.attacked = true";
        document.body.append(script);`);
    assert.equal(await browser.run("return window.attacked"), null);
    const [complaint] = await browser.console();
    assert.match(complaint.message, /Content Security Policy/);
}

// Follows a mail's link in a window of its own.
async function confirm(link) {
    const before = await inWindow(link);
    await look("link");
    await send();
    assert.match(await browser.text(), /Thank you/);
    await look("link, followed");
    await browser.close();
    await browser.turnTo(before);
}

// Opens a window from the one that is shown, which is told.
async function inWindow(url) {
    const before = await browser.windows();
    await browser.run("window.open(arguments[0])", url);
    const opened = (await browser.windows()).find((handle) => !before.includes(handle));
    await browser.turnTo(opened);
    return before[0];
}

// Does a step in a window that the client opens, which hears when it is done.
async function inClient(url, step) {
    await browser.open(client.url);
    await browser.console();
    const window = await inWindow(url);
    await step();
    assert.equal(await browser.title(), "Done");
    await look("done");
    await browser.close();
    await browser.turnTo(window);
    const heard = await browser.run("return heard");
    assert.deepEqual(heard, [["authDone", server.url]], "the client isn't told");
}

// Does a step where the client has the page call it (`onAuthDone`).
async function inside(url, step) {
    await browser.open(url);
    await step();
    assert.equal(await browser.title(), "Done");
    assert.equal(await browser.run("return window.told"), 1, "the client isn't called");
    await look("done");
}

// Does a step as somebody without JavaScript: the client isn't told, they tell it.
async function withoutScripts(url, step) {
    await browser.open(url);
    await step();
    assert.equal(await browser.title(), "Done");
    await look("done");
}

async function register(person, ways) {
    const wanted = { username: person.name, password: PASSWORD };
    const ask = (auth) => server.ask("POST", "/register", { ...wanted, auth });
    const { status, session, flows } = await ask();
    assert.equal(status, 401);
    assert.deepEqual(flows, [{ stages: [TOKEN, EMAIL, TERMS] }]);
    for (const [index, stage] of flows[0].stages.entries()) {
        const url = `${server.url}/_matrix/client/v3/auth/${stage}/fallback/web?session=${encodeURIComponent(session)}`;
        await ways[stage](url, () => steps[stage](person));
        if (index < 2) {
            const { completed } = await ask({ session });
            assert.deepEqual(completed, flows[0].stages.slice(0, index + 1));
        }
    }
    const made = await ask({ session });
    assert.equal(made.status, 200, JSON.stringify(made));
    await logIn(person, PASSWORD);
    await browser.open(`${server.url}/_matrix/client/v3/auth/${TERMS}/fallback/web?session=${session}`);
    await look("too late");
    person.secrets.push(session, made.access_token);
}

async function logIn(person, password) {
    const identifier = { type: "m.id.user", user: person.name };
    const asked = { type: "m.login.password", identifier, password };
    const { access_token } = await server.ask("POST", "/login", asked);
    const { user_id } = await server.ask("GET", "/account/whoami", undefined, access_token);
    assert.match(String(user_id), new RegExp(`^@${person.name}:`));
}

// Somebody has forgotten their password.
async function another(person) {
    const [client_secret, new_password] = ["a.client.secret", "another horse, another staple"];
    const asked = { client_secret, email: person.address, send_attempt: 1 };
    const { sid } = await server.ask("POST", "/account/password/email/requestToken", asked);
    const { link, code } = await mail.next(person.address);
    await browser.open(link);
    await look("another password");
    await send();
    assert.match(await browser.text(), /Thank you/);
    await look("another password, done");
    const auth = { type: EMAIL, threepid_creds: { sid, client_secret } };
    const set = await server.ask("POST", "/account/password", { new_password, auth });
    assert.equal(set.status, 200, JSON.stringify(set));
    await logIn(person, new_password);
    await browser.open(link);
    assert.match(await browser.text(), /isn't good any more/);
    await look("another password, again");
    person.secrets.push(code, client_secret, new_password);
}

async function story() {
    token = await server.command("token", "create", "--uses", "2");
    await browser.open(server.url);
    assert.match(await browser.text(), /This is a Matrix server/);
    await look("the server");

    const ada = { name: "ada", address: "ada@example.org", hasScripts: true, secrets: [] };
    await browser.before("window.told = 0; window.onAuthDone = () => { window.told += 1; };");
    await register(ada, { [TOKEN]: inClient, [EMAIL]: inside, [TERMS]: inside });
    await another(ada);

    const bea = { name: "bea", address: "bea@example.org", hasScripts: false, secrets: [] };
    await browser.scripts(false);
    await register(bea, { [TOKEN]: withoutScripts, [EMAIL]: withoutScripts, [TERMS]: withoutScripts });

    const log = await server.log();
    assert.doesNotMatch(log, / (ERROR|WARN) /, "the server complains");
    for (const secret of [token, PASSWORD, ...ada.secrets, ...bea.secrets]) {
        assert.ok(!log.includes(secret), `the server's log has a secret in it: ${secret}`);
    }
    console.log(`browser: two people have registered by ${seen} pages, one of them without JavaScript`);
}

const stop = [];
try {
    stop.push((client = await startClient()), (mail = await MailServer.start()));
    stop.push((server = await Rhizome.start(process.argv[2], mail.port, `${client.url}/privacy`)));
    stop.push((browser = await Browser.start()));
    await story();
} catch (error) {
    const log = await server?.log();
    console.error("browser:", error, log ? `\n---- the last that the server says:\n${log.slice(-4000)}` : "");
    process.exitCode = 1;
} finally {
    for (const one of stop.reverse()) await one.stop();
}
