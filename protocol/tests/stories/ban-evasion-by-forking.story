Carl may set the topic. Alice bans him; on a fork that doesn't know of the ban, he goes on as before, and
later comes back by leaving and joining from before it. The ban holds, and what he did on his fork goes.

in versions 2-12

powers: alice gives bob=50 carl=50
ban: alice bans carl, after powers
topic: carl sets topic mine, after powers
renamed: carl joins, after topic
left: carl leaves, after powers
back: carl joins, after left
[auth 5.3.3]: carl joins, after ban

merge ban topic
    member carl is ban
    topic is gone
merge ban renamed
    member carl is ban
    topic is gone
merge ban back
    member carl is ban
merge renamed back ban
    member carl is ban
    topic is gone
