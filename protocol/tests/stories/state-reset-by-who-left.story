A state reset that version 12 exists for. Alice sets the topic and leaves; all forks know that. Then Bob
sets another topic on one fork, while Dora, who has more power, kicks him on another. Bob's topic falls.
Alice's was right when she set it: but up to version 11 it is judged by the state that all agree about, in
which she is gone, so that the room ends up without any topic.

in versions 2-12

dora: dora joins
powers: alice gives bob=50 dora=75
topic: alice sets topic ours
left: alice leaves
bobs: bob sets topic mine, after left
kick: dora kicks bob, after left

merge bobs kick
    member bob is kick
    member alice is left
    in versions 2-11: topic is gone
    in versions 12: topic is topic
