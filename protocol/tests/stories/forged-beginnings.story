A room begins once. Whoever sends a create event after it has others before it; and up to version 11 the
room id says whose server may have begun it.

in versions 1-11

[auth 1.1]: carl begins the room, after start
[auth 1.1]: alice begins the room, after start
[auth 1.2]: carl begins the room, after nothing
