In version 12 the room id is the create event's hash: another create event makes another room, and nothing
that it would allow is allowed in this one, not even to whoever made it.

in versions 12

[auth 1.1]: carl begins the room, after start
forged: carl begins the room, after nothing
[auth 2]: carl joins, after forged
[auth 2]: alice joins, after forged
