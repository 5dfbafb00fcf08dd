"""Stories of files that people of one server upload and those of the other look at.

Each is told once, of a pair of people who share a room, both ways.
"""

import concurrent.futures
import http.client
import io
import json
import random
import re
import urllib.parse

from api import ApiError, exchange, quote
from PIL import Image
from servers import Failed

# Asks for files with a token, as the specification has it since v1.11.
MEDIA = "/_matrix/client/v1/media"
# So many bytes of a file Rhizome fetches in these stories.
MOST_FETCHED = 8 << 20
RED, BLUE = (220, 30, 30), (30, 30, 220)
# What names may have: other scripts, spaces, what separates parameters, what goes beyond 16 bits.
PICTURE_NAME = "Größe; 絵 „1“.png"
FILE_NAME = "Отчёт за 2024 год, часть 1 \U0001f9a5.pdf"


# ---- what is done with files


def upload(person, data, content_type, name):
    path = f"/_matrix/media/v3/upload?filename={quote(name)}"
    _, answer = exchange(person.server, "POST", path, data, content_type, person.token)
    return json.loads(answer)["content_uri"]


def ask(person, what, uri, query=""):
    """Headers and bytes of a file (`download`), or of its picture (`thumbnail`)."""
    path = f"{MEDIA}/{what}/{uri.removeprefix('mxc://')}{query}"
    return exchange(person.server, "GET", path, token=person.token)


def thumbnail(person, uri, size, method):
    headers, data = ask(person, "thumbnail", uri, f"?width={size[0]}&height={size[1]}&method={method}")
    picture = Image.open(io.BytesIO(data))
    same("the type of a thumbnail", headers.get_content_type(), picture.get_format_mimetype())
    same("how a thumbnail is shown", headers.get_content_disposition(), "inline")
    return picture.convert("RGB")


def send(pair, author, reader, room, kind, name, data, content_type):
    """Uploads a file and sends it; the address that the reader is told."""
    content = {"msgtype": kind, "body": name, "url": upload(author, data, content_type, name)}
    event = author.send(room, "m.room.message", content)
    reader.until_seen(room, event)
    return reader.event(room, event)["content"]["url"]


def refusal(person, what, uri, query=""):
    """The status by which a server says that it gives no such thing."""
    try:
        ask(person, what, uri, query)
    except ApiError as error:
        return error.status
    raise Failed(f"{person.server.kind} should have refused a {what}")


def same(what, found, expected):
    if found != expected:
        raise Failed(f"{what} is {found!r}, not {expected!r}")


def name_of(headers):
    """The file's name, as a client that follows RFC 6266 reads it: the exact one comes before the other."""
    exact = re.search(r"filename\*=utf-8''([^;\s]+)", headers["Content-Disposition"], re.IGNORECASE)
    return urllib.parse.unquote(exact[1], errors="strict") if exact else headers.get_filename()


def arrives(reader, uri, data, content_type, name, disposition):
    """The file comes as it was uploaded: the first time from the other server, then from what is kept."""
    for when in ["fetched", "kept"]:
        headers, found = ask(reader, "download", uri)
        at = f"of a file {when} by {reader.server.kind}"
        same(f"the length {at}", len(found), len(data))
        same(f"whether bytes are the same, {at},", found == data, True)
        same(f"the said length {at}", headers.get("Content-Length", str(len(data))), str(len(data)))
        # Synapse says more of texts.
        same(f"the type {at}", headers.get_content_type(), content_type)
        same(f"the disposition {at}", headers.get_content_disposition(), disposition)
        same(f"the name {at}", name_of(headers), name)


def picture(size, format, **how):
    """A picture: its left half red, its right one blue."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, *size))
    data = io.BytesIO()
    image.save(data, format, **how)
    return data.getvalue()


def cropped(person, uri):
    image = thumbnail(person, uri, (96, 96), "crop")
    same("the size of a cropped thumbnail", image.size, (96, 96))
    looks_like_it(image)


def scaled(person, uri, source):
    """It keeps the proportions of its source, and is as wide or as high as was asked for: Synapse makes the one that fits,
    Rhizome the one that is no smaller either way."""
    asked = (320, 240)
    image = thumbnail(person, uri, asked, "scale")
    wanted = [(asked[0], asked[0] * source[1] / source[0]), (asked[1] * source[0] / source[1], asked[1])]
    # One rounds, the other cuts off.
    if not any(abs(image.width - w) <= 1 and abs(image.height - h) <= 1 for w, h in wanted):
        raise Failed(f"the size of a thumbnail of {source} for {asked} is {image.size}")
    looks_like_it(image)


def looks_like_it(image):
    """A thumbnail has the right colour on either side."""
    middle = image.height // 2
    for x, colour in [(1, RED), (image.width - 2, BLUE)]:
        off = max(abs(a - b) for a, b in zip(image.getpixel((x, middle)), colour))
        if off > 40:
            raise Failed(f"a thumbnail's colour at {x} is {image.getpixel((x, middle))}, not {colour}")


# ---- stories


def pictures_of_others(pair):
    """A picture and its thumbnails, cropped and scaled."""
    room = pair.meet()
    for author, reader in pair.both_ways():
        for format, content_type in [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]:
            # Each its own bytes: the thumbnails of one mustn't be another's.
            size = (1200, 600 + len(author.id))
            data = picture(size, format)
            uri = send(pair, author, reader, room, "m.image", PICTURE_NAME, data, content_type)
            # Asked for first: the file comes for their sake.
            cropped(reader, uri)
            scaled(reader, uri, size)
            arrives(reader, uri, data, content_type, PICTURE_NAME, "inline")


def files_of_others(pair):
    """What is no picture, with a name in another script."""
    room = pair.meet()
    for author, reader in pair.both_ways():
        # Larger than what any of both reads at once.
        data = b"%PDF-1.7\n" + random.Random(author.id).randbytes(3 << 20)
        uri = send(pair, author, reader, room, "m.file", FILE_NAME, data, "application/pdf")
        arrives(reader, uri, data, "application/pdf", FILE_NAME, "attachment")
        status = refusal(reader, "thumbnail", uri, "?width=96&height=96&method=crop")
        same("how a thumbnail of no picture is refused", status in (400, 404), True)


def files_without_a_type(pair):
    """What could be a page with a script isn't shown, whoever says what it is."""
    room = pair.meet()
    for author, reader in pair.both_ways():
        data = b"<script>alert(1)</script>" + author.id.encode()
        uri = send(pair, author, reader, room, "m.file", "page.html", data, "text/html")
        arrives(reader, uri, data, "text/html", "page.html", "attachment")
        headers, _ = ask(reader, "download", uri)
        same("whether it may do anything", "sandbox" in headers["Content-Security-Policy"], True)


def a_file_is_still_to_come(pair):
    """Its id is told before its bytes are there; who asks for it waits for them. Synapse isn't asked not to wait: it takes
    a server for dead that says 504 as it must, and leaves it alone for ten minutes."""
    for author, reader in pair.both_ways():
        path = "/_matrix/media/v1/create"
        _, answer = exchange(author.server, "POST", path, b"{}", "application/json", author.token)
        uri = json.loads(answer)["content_uri"]
        data = f"what {author.id} had to say".encode()
        if reader.server.kind == "Rhizome":
            same("what isn't there", refusal(reader, "download", uri, "?timeout_ms=0"), 504)
        with concurrent.futures.ThreadPoolExecutor() as beside:
            waiting = beside.submit(ask, reader, "download", uri, "?timeout_ms=50000")
            path = f"/_matrix/media/v3/upload/{uri.removeprefix('mxc://')}?filename=late.txt"
            exchange(author.server, "PUT", path, data, "text/plain", author.token)
            headers, found = waiting.result()
        same("what came late", found, data)
        same("its name", name_of(headers), "late.txt")


def what_isnt_there(pair):
    for author, reader in pair.both_ways():
        uri = f"mxc://{author.server.name}/thereisnone"
        same("a file that isn't there", refusal(reader, "download", uri), 404)
        query = "?width=96&height=96&method=crop"
        same("its thumbnail", refusal(reader, "thumbnail", uri, query), 404)


def a_picture_too_large_to_be_fetched(pair):
    """Rhizome asks Synapse for its thumbnails instead."""
    ours, theirs = sorted((pair.host, pair.guest), key=lambda person: person.server.kind)
    size = (2000, 1600)
    data = picture(size, "PNG", compress_level=0)
    same("whether it is too large", len(data) > MOST_FETCHED, True)
    uri = upload(theirs, data, "image/png", PICTURE_NAME)
    try:
        _, found = ask(ours, "download", uri)
        raise Failed(f"{len(found)} bytes were given of what is too large")
    except (ApiError, http.client.IncompleteRead):
        # Synapse doesn't say how large it is, so that it may break off on its way.
        pass
    cropped(ours, uri)
    scaled(ours, uri, size)


STORIES = [
    pictures_of_others,
    files_of_others,
    files_without_a_type,
    a_file_is_still_to_come,
    what_isnt_there,
    a_picture_too_large_to_be_fetched,
]
