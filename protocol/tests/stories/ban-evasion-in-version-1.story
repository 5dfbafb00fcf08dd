The same in version 1, whose resolution looks at depth: a fork that is only long enough undoes a ban, as
long as each event on it is allowed by the one before. That is why there are other versions.

in versions 1

powers: alice gives bob=50 carl=50
ban: alice bans carl, after powers
left: carl leaves, after powers
back: carl joins, after left
longer: carl joins, after back
again: alice bans carl, after longer

# Of one depth, the hash of the id decides; here the ban is less deep, so it comes first, and a join isn't
# allowed upon it.
merge ban longer
    member carl is ban
# A ban upon the join is.
merge back again
    member carl is again
# What only one fork has isn't in conflict.
topic: carl sets topic mine, after powers
merge ban topic
    topic is topic
    member carl is ban
