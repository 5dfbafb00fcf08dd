"""Two people on two Rhizomes, with matrix-nio.

usage: talk.py URL_OF_ALICES_SERVER URL_OF_BOBS_SERVER

Alice makes a room, writes into it and invites Bob, who is on the other server. He joins, both talk,
and Bob pages back to what was written before he came. Fails with a sentence when something doesn't
arrive.
"""

import asyncio
import sys
import time

from nio import (
    AsyncClient,
    AsyncClientConfig,
    ErrorResponse,
    InviteMemberEvent,
    MessageDirection,
    RoomCreateEvent,
    RoomMessageText,
    RoomPreset,
)

PASSWORD = "correct horse battery staple"
PATIENCE = 30  # seconds that anything may take to arrive
NOTES = 25  # messages before Bob comes: more than one page
PAGE = 10


class Failed(Exception):
    pass


async def ok(request):
    """The answer to a request that must succeed."""
    answer = await request
    if isinstance(answer, ErrorResponse):
        raise Failed(f"the server refused: {answer}")
    return answer


async def person(server, name):
    """Makes an account and logs in to it with its password."""
    client = AsyncClient(server, config=AsyncClientConfig(max_timeouts=3))
    await ok(client.register(name, PASSWORD))
    await ok(client.logout())
    client.user = name
    await ok(client.login(PASSWORD, device_name="Example"))
    return client


async def say(client, room_id, text):
    content = {"msgtype": "m.text", "body": text}
    return (await ok(client.room_send(room_id, "m.room.message", content))).event_id


async def until(client, what, check):
    """Syncs until an answer has `what`: until `check(answer)` finds something, which is given back."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        # nio remembers where the last sync ended and goes on from there.
        found = check(await ok(client.sync(timeout=1000)))
        if found:
            return found
    raise Failed(f"{client.user_id} didn't get {what} within {PATIENCE} s")


async def hears(client, room_id, text):
    def said(answer):
        room = answer.rooms.join.get(room_id)
        events = room.timeline.events if room else []
        return any(isinstance(event, RoomMessageText) and event.body == text for event in events)

    await until(client, f"the message “{text}”", said)


async def history(client, room_id):
    """All that this person can read of the room, oldest first, page by page; how many pages it was."""
    events, pages, start = [], 0, ""
    while start is not None:
        page = await ok(client.room_messages(room_id, start, None, MessageDirection.back, PAGE))
        events += page.chunk
        pages += 1
        start = page.end
    return events[::-1], pages


async def story(alice, bob):
    domain = alice.user_id.split(":", 1)[1]
    created = await ok(
        alice.room_create(alias="garden", name="Garden", preset=RoomPreset.private_chat)
    )
    room_id = created.room_id
    alias = await ok(bob.room_resolve_alias(f"#garden:{domain}"))
    if alias.room_id != room_id:
        raise Failed(f"#garden:{domain} is {alias.room_id} for Bob and {room_id} for Alice")
    notes = [f"note {number}" for number in range(NOTES)]
    for note in notes:
        await say(alice, room_id, note)

    await ok(alice.room_invite(room_id, bob.user_id))

    def invited(answer):
        room = answer.rooms.invite.get(room_id)
        return room and any(isinstance(event, InviteMemberEvent) for event in room.invite_state)

    await until(bob, "Alice's invite", invited)
    await ok(bob.join(room_id))

    await say(alice, room_id, "Welcome, Bob!")
    await hears(bob, room_id, "Welcome, Bob!")
    await say(bob, room_id, "Glad to be here.")
    await hears(alice, room_id, "Glad to be here.")

    events, pages = await history(bob, room_id)
    if not isinstance(events[0], RoomCreateEvent):
        raise Failed(f"Bob's history begins with {events[0]} instead of the room's creation")
    bodies = [event.body for event in events if isinstance(event, RoomMessageText)]
    if bodies != [*notes, "Welcome, Bob!", "Glad to be here."]:
        raise Failed(f"Bob reads another history than was written: {bodies}")
    print(f"nio: both talk; Bob reads all {len(events)} events of the room in {pages} pages")


async def main(alices_server, bobs_server):
    alice, bob = await asyncio.gather(person(alices_server, "alice"), person(bobs_server, "bob"))
    try:
        await story(alice, bob)
        for client in (alice, bob):
            await ok(client.logout())
    finally:
        await asyncio.gather(alice.close(), bob.close())


if __name__ == "__main__":
    try:
        asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 5 * PATIENCE))
    except Failed as error:
        sys.exit(f"nio: {error}")
    except TimeoutError:
        sys.exit(f"nio: not done within {5 * PATIENCE} s")
