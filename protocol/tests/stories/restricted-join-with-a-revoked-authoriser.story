Dora is let in by Bob's server while, on another fork, Bob loses the right to invite: her join falls. So it
does when he is no longer in the room. Another authoriser is as good.

in versions 8-12

rule: alice opens the room to restricted
guard: alice gives bob=50 invite=50
[auth 5.3.5]: dora joins, after guard
[auth 5.3.5]: dora joins via carl, after guard
[auth 5.3.5]: dora joins via dora, after guard
by_bob: dora joins via bob, after guard
by_alice: dora joins via alice, after guard
renamed: dora joins, after by_bob
revoked: alice gives bob=0 invite=50, after guard
kicked: alice kicks bob, after guard
[auth 5.3.5]: dora joins via bob, after revoked
[auth 5.3.5]: dora joins via bob, after kicked

merge by_bob revoked
    member dora is gone
    power_levels is revoked
merge by_bob kicked
    member dora is gone
    member bob is kicked
merge by_alice revoked
    member dora is by_alice
