// A Rhizome that wants a token, an address and a consent of whoever registers, and mails through a mail server here.

import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { promisify } from "node:util";

const PATIENCE = 30_000; // milliseconds that a start may take
const BETWEEN = 50; // two looks

export class Rhizome {
    #binary;
    #folder;
    #process;
    #environment;
    url;

    static async start(binary, mailPort, termsUrl) {
        const rhizome = new Rhizome();
        try {
            await rhizome.#start(binary, mailPort, termsUrl);
        } catch (error) {
            console.error(await rhizome.log());
            await rhizome.stop();
            throw error;
        }
        return rhizome;
    }

    async #start(binary, mailPort, termsUrl) {
        this.#binary = binary;
        this.#folder = await mkdtemp(join(tmpdir(), "rhizome-registering-"));
        const port = await freePort();
        this.url = `http://127.0.0.1:${port}`;
        await writeFile(join(this.#folder, "rhizome.toml"), settings(this.#folder, port, mailPort, termsUrl));
        // Nobody else's settings.
        const own = Object.entries(process.env).filter(([name]) => !name.startsWith("RHIZOME_"));
        this.#environment = { ...Object.fromEntries(own), RHIZOME_CONFIG: join(this.#folder, "rhizome.toml") };
        this.#process = spawn("sh", ["-c", 'exec "$0" serve 2>"$1"', binary, join(this.#folder, "log")], {
            env: this.#environment,
            stdio: "ignore",
        });
        for (const until = Date.now() + PATIENCE; ; await pause(BETWEEN)) {
            if (this.#process.exitCode !== null) throw new Error("Rhizome ends at once");
            if (Date.now() > until) throw new Error("Rhizome doesn't begin");
            if ((await fetch(`${this.url}/health`).catch(() => null))?.ok) return;
        }
    }

    // What an operator's command says.
    async command(...args) {
        const done = await promisify(execFile)(this.#binary, args, { env: this.#environment });
        return done.stdout.trim();
    }

    // What the server says, but for what may be secret.
    log() {
        return readFile(join(this.#folder, "log"), "utf8").catch(() => "");
    }

    async stop() {
        if (this.#process?.kill()) await new Promise((ended) => this.#process.once("exit", ended));
        await rm(this.#folder, { recursive: true, force: true });
    }

    // A request of a client: what is answered, with its status.
    async ask(method, path, body, token) {
        const answer = await fetch(`${this.url}/_matrix/client/v3${path}`, {
            method,
            body: body && JSON.stringify(body),
            headers: token ? { authorization: `Bearer ${token}` } : {},
        });
        return { status: answer.status, ...(await answer.json()) };
    }
}

function settings(folder, port, mailPort, termsUrl) {
    const text = JSON.stringify;
    return `
[server]
name = "agardenwitharatherlongname.example.org"
data_dir = ${text(folder)}
[[listeners]]
address = "127.0.0.1:${port}"
[well_known]
client = "http://127.0.0.1:${port}"
[federation]
enabled = false
[rate_limits]
enabled = false
[registration]
mode = "token"
email = "required"
[[registration.terms]]
id = "privacy"
version = "1"
languages = { en = { name = "Privacy policy <of ours>", url = ${text(termsUrl)} } }
[mail]
host = "127.0.0.1"
port = ${mailPort}
tls = "none"
from = "garden@example.org"
[logging]
level = "debug"
`;
}

async function freePort() {
    const server = createServer();
    await new Promise((listens) => server.listen(0, "127.0.0.1", listens));
    const { port } = server.address();
    await new Promise((closed) => server.close(closed));
    return port;
}
