Two ban each other, Carl with the power that he has on one side only. He has more there, so his ban holds;
Bob's is then that of somebody who is banned.

in versions 2-12

by_bob: bob bans carl, after start
powers: alice gives bob=50 carl=60, after start
by_carl: carl bans bob, after powers

merge by_bob by_carl
    member bob is by_carl
    member carl is start # his join
    power_levels is powers
