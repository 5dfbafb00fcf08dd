Another one. Alice lets Carl set levels, and he does, twice. Somebody claims a state with the levels of the
beginning, in which Carl nevertheless has a name that rests on the newer ones. So the levels between are in
the auth chains of both states and count as undisputed; up to version 11 they are not looked at, and without
them Carl's weren't allowed. Version 12 looks at all that lies between what is in conflict.

in versions 2-12

first: alice gives bob=50 carl=0
between: alice gives bob=50 carl=100
name: carl joins
third: carl gives bob=60 carl=100, after name
again: carl joins, after third
stale = name but power_levels is first

merge third stale
    in versions 2-11: power_levels is first
    in versions 12: power_levels is third
