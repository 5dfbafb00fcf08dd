// A mail server that keeps what it is given (RFC 5321), and what is in those mails.

import { createServer } from "node:net";

const PATIENCE = 30_000; // milliseconds that a mail may take to arrive

export class MailServer {
    #server;
    #mails = [];
    #waiting = [];

    static async start() {
        const mail = new MailServer();
        mail.#server = createServer((socket) => mail.#talk(socket));
        await new Promise((listens) => mail.#server.listen(0, "127.0.0.1", listens));
        return mail;
    }

    get port() {
        return this.#server.address().port;
    }

    stop() {
        this.#server.close();
    }

    // The next mail to somebody that nobody has had yet.
    next(to) {
        const at = this.#mails.findIndex((mail) => mail.to === to);
        if (at >= 0) return Promise.resolve(this.#mails.splice(at, 1)[0]);
        return new Promise((came, failed) => {
            const late = setTimeout(() => failed(new Error(`no mail comes to ${to}`)), PATIENCE);
            this.#waiting.push({ to, came: (mail) => (clearTimeout(late), came(mail)) });
        });
    }

    #keep(to, raw) {
        const mail = { to, ...read(raw) };
        const at = this.#waiting.findIndex((one) => one.to === to);
        if (at >= 0) this.#waiting.splice(at, 1)[0].came(mail);
        else this.#mails.push(mail);
    }

    #talk(socket) {
        let text = "", to, isMail = false;
        const answer = (line) => socket.write(`${line}\r\n`);
        const line = (said) => {
            if (/^EHLO /i.test(said)) return answer("250 mail.test");
            if (/^RCPT TO:/i.test(said)) to = /<(.*)>/.exec(said)[1];
            if (/^DATA/i.test(said)) {
                isMail = true;
                return answer("354 go on");
            }
            if (/^QUIT/i.test(said)) return socket.end("221 bye\r\n");
            answer("250 yes");
        };
        socket.setEncoding("latin1").on("error", () => {});
        socket.on("data", (piece) => {
            text += piece;
            for (;;) {
                const end = isMail ? "\r\n.\r\n" : "\r\n";
                const at = text.indexOf(end);
                if (at < 0) return;
                const part = text.slice(0, at);
                text = text.slice(at + end.length);
                if (!isMail) {
                    line(part);
                    continue;
                }
                isMail = false;
                this.#keep(to, part.replaceAll("\r\n..", "\r\n."));
                answer("250 yes");
            }
        });
        answer("220 mail.test");
    }
}

// The subject and the plain text of a mail, with the code and the link in it.
function read(raw) {
    const subject = /^Subject: (.*)$/m.exec(raw)[1].trim();
    const boundary = /boundary="([^"]+)"/.exec(raw)[1];
    const part = raw.split(`--${boundary}`).find((part) => /^Content-Type: text\/plain/im.test(part));
    const [head, ...body] = part.split("\r\n\r\n");
    const how = /^Content-Transfer-Encoding: (.*)$/im.exec(head)?.[1].trim().toLowerCase() ?? "7bit";
    const text = decoded(how, body.join("\r\n\r\n"));
    return {
        subject,
        text,
        code: /^([2-9a-z]{8})\s*$/m.exec(text)?.[1],
        link: /^(https?:\/\/\S+)\s*$/m.exec(text)?.[1],
    };
}

function decoded(how, body) {
    switch (how) {
        case "7bit":
            return body;
        case "base64":
            return Buffer.from(body, "base64").toString();
        case "quoted-printable": {
            const joined = body.replaceAll("=\r\n", "");
            const bytes = joined.replace(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
            return Buffer.from(bytes, "latin1").toString();
        }
        default:
            throw new Error(`a mail in ${how}`);
    }
}
