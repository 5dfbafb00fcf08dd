Version 1 settles levels first, then join rules, then memberships, each from the least deep on as long as
each is allowed by the one before, then all else from the deepest on.

in versions 1

mine: bob gives bob=50 carl=50, after start
hers: alice gives bob=10, after mine
other: carl sets topic carls, after mine
topic: alice sets topic hers, after hers

merge mine hers
    power_levels is hers
merge other topic
    power_levels is hers
    topic is topic
