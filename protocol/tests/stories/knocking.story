Dora asks to be let in. Her knock isn't a membership that lets her join; an invite is. A knock on one fork and
a ban on the other: the ban holds.

in versions 7-12

rule: alice opens the room to knock
[auth 5.3.4]: dora joins, after rule
knock: dora knocks, after rule
[auth 5.3.4]: dora joins, after knock
[auth 5.7.4]: carl knocks, after knock
[auth 5.5.5]: carl kicks dora, after knock
retracted: dora leaves, after knock
denied: bob kicks dora, after knock
invite: bob invites dora, after knock
[auth 5.7.4]: dora knocks, after invite
join: dora joins, after invite
ban: bob bans dora, after rule

merge knock ban
    member dora is ban
merge join ban
    member dora is ban
