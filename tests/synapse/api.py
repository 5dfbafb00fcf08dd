"""One request to a server's client API."""

import json
import urllib.error
import urllib.parse
import urllib.request


class ApiError(Exception):
    """The server refused."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body}")
        self.status = status


def request(server, method, path, body=None, token=None):
    data = None if body is None else json.dumps(body).encode()
    _, answer = exchange(server, method, path, data, "application/json", token)
    return json.loads(answer)


def exchange(server, method, path, data=None, content_type=None, token=None):
    """What the server answers, whatever it is: headers and bytes."""
    headers = {"Content-Type": content_type} if content_type else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    call = urllib.request.Request(server.base + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(call, timeout=90) as answer:
            return answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        raise ApiError(error.code, error.read().decode(errors="replace")) from None


def quote(part):
    return urllib.parse.quote(part, safe="")
