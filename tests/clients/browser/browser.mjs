// Chromium without a window, driven by WebDriver (https://www.w3.org/TR/webdriver2/) through Debian's chromium-driver:
// nothing has to be installed for it from elsewhere.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

// How WebDriver says that a value is an element of the page.
const ELEMENT = "element-6066-11e4-a52e-4f735466cecf";
const PATIENCE = 30_000; // milliseconds that starting, or loading a page, may take
const BETWEEN = 20; // two looks

const CHROMIUM = [
    "--headless=new",
    // What runs the tests is often root in a container, where Chromium's own sandbox can't be made, and /dev/shm is small.
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    // Nothing but this machine is asked anything.
    "--disable-background-networking",
    "--disable-component-update",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

export class Browser {
    #driver;
    #folder;
    #session;

    static async start() {
        const browser = new Browser();
        try {
            await browser.#start();
        } catch (error) {
            await browser.stop();
            throw error;
        }
        return browser;
    }

    async #start() {
        this.#folder = await mkdtemp(join(tmpdir(), "rhizome-browser-"));
        this.#driver = spawn("chromedriver", ["--port=0"], { stdio: ["ignore", "pipe", "inherit"] });
        const port = await says(this.#driver, /started successfully on port (\d+)/);
        this.#session = `http://127.0.0.1:${port}/session`;
        const chrome = { args: [...CHROMIUM, `--user-data-dir=${this.#folder}`] };
        const wanted = {
            "goog:chromeOptions": chrome,
            "goog:loggingPrefs": { browser: "ALL" },
            timeouts: { pageLoad: PATIENCE, script: PATIENCE, implicit: 0 },
        };
        const { sessionId } = await this.#call("POST", "", { capabilities: { alwaysMatch: wanted } });
        this.#session += `/${sessionId}`;
    }

    async stop() {
        if (this.#session) await this.#call("DELETE", "").catch(() => {});
        if (this.#driver?.kill()) await new Promise((ended) => this.#driver.once("exit", ended));
        if (this.#folder) await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 });
    }

    async #call(method, path, body) {
        const signal = AbortSignal.timeout(2 * PATIENCE);
        const options = { method, signal, body: body && JSON.stringify(body) };
        const answer = await fetch(this.#session + path, options);
        const { value } = await answer.json();
        if (!answer.ok) throw new Error(`${method} ${path}: ${value.error}: ${value.message}`);
        return value;
    }

    // A command of Chromium's own.
    #chromium(cmd, params) {
        return this.#call("POST", "/goog/cdp/execute", { cmd, params });
    }

    open(url) {
        return this.#call("POST", "/url", { url });
    }

    address() {
        return this.#call("GET", "/url");
    }

    title() {
        return this.#call("GET", "/title");
    }

    // What a piece of JavaScript returns, whatever the page's policy says of scripts.
    run(script, ...args) {
        return this.#call("POST", "/execute/sync", { script, args });
    }

    // What every page of this window finds there before it begins.
    before(source) {
        return this.#chromium("Page.addScriptToEvaluateOnNewDocument", { source });
    }

    // What the pages say from now on, as if somebody had switched JavaScript off.
    scripts(allowed) {
        return this.#chromium("Emulation.setScriptExecutionDisabled", { value: !allowed });
    }

    width(width) {
        const size = { width, height: 700, deviceScaleFactor: 1, mobile: false };
        return this.#chromium("Emulation.setDeviceMetricsOverride", size);
    }

    windows() {
        return this.#call("GET", "/window/handles");
    }

    turnTo(handle) {
        return this.#call("POST", "/window", { handle });
    }

    close() {
        return this.#call("DELETE", "/window");
    }

    // Does what leads to another page, and waits for that.
    async leave(act) {
        await this.run("document.isOld = true");
        await act();
        const there = "return !document.isOld && document.readyState === 'complete'";
        for (const until = Date.now() + PATIENCE; ; await pause(BETWEEN)) {
            // In between there is no page to ask.
            if (await this.run(there).catch(() => false)) return;
            if (Date.now() > until) throw new Error(`no other page comes after ${await this.address()}`);
        }
    }

    // The elements that a selector of CSS finds.
    async all(value) {
        const found = await this.#call("POST", "/elements", { using: "css selector", value });
        return found.map((element) => element[ELEMENT]);
    }

    // The only one.
    async one(selector) {
        const found = await this.all(selector);
        if (found.length !== 1) {
            throw new Error(`${found.length} of ${selector} on ${await this.address()}: ${await this.text()}`);
        }
        return found[0];
    }

    async text(selector = "body") {
        return this.#call("GET", `/element/${await this.one(selector)}/text`);
    }

    async type(selector, text) {
        const element = await this.one(selector);
        await this.#call("POST", `/element/${element}/clear`, {});
        await this.#call("POST", `/element/${element}/value`, { text });
    }

    // Presses a button, or follows a link.
    async click(selector) {
        const element = await this.one(selector);
        await this.leave(() => this.#call("POST", `/element/${element}/click`, {}));
    }

    // What a screen reader calls an element.
    label(element) {
        return this.#call("GET", `/element/${element}/computedlabel`);
    }

    // What the console says since the last time.
    console() {
        return this.#call("POST", "/se/log", { type: "browser" });
    }

    async picture(file) {
        await writeFile(file, await this.#call("GET", "/screenshot"), "base64");
    }
}

// What a pattern finds in what a program says.
function says(program, pattern) {
    return new Promise((found, failed) => {
        let text = "";
        const late = setTimeout(() => failed(new Error(`it doesn't begin: ${text}`)), PATIENCE);
        const ended = (why) => {
            clearTimeout(late);
            failed(new Error(`it can't begin: ${why.message ?? text}`));
        };
        program.once("error", ended).once("exit", ended);
        program.stdout.setEncoding("utf8").on("data", (piece) => {
            text += piece;
            const is = pattern.exec(text);
            if (!is) return;
            clearTimeout(late);
            program.off("error", ended).off("exit", ended);
            found(is[1]);
        });
    });
}
