Alice closes the room while Dora joins: closing wins, and Dora is out. Whoever was in stays in. A second join
event of Dora's, say with a new name, rests on the first, and nothing forbids that one where it was made:
so it stands.

in versions 2-12

join: dora joins, after start
renamed: dora joins, after join
closed: alice opens the room to invite, after start
carl2: carl joins, after start

merge join closed
    join_rules is closed
    member dora is gone
merge renamed closed
    member dora is renamed
merge carl2 closed
    member carl is carl2
