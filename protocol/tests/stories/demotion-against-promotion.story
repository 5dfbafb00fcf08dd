Alice demotes Bob while he promotes Carl. Hers comes first, as she has more power, so his falls, and with it
what Carl does with his new power.

in versions 2-12

promotion: bob gives bob=50 carl=50, after start
demotion: alice gives bob=0, after start
topic: carl sets topic mine, after promotion
ban: carl bans dora, after topic

merge promotion demotion
    power_levels is demotion
merge topic demotion
    power_levels is demotion
    topic is gone
merge ban demotion
    power_levels is demotion
    member dora is gone
