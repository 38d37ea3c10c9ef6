"""The classes of NTU RGB+D 120 in order A001..A120, as its page lists them, in lower case; NTU RGB+D 60 is A001..A060.

Source: the list of actions at github.com/shahroudy/NTURGB-D, spelling included ("hush (quite)").
"""

from __future__ import annotations

CLASSES = (
    # A001
    *("drink water", "eat meal/snack", "brushing teeth", "brushing hair", "drop"),
    *("pickup", "throw", "sitting down", "standing up (from sitting position)", "clapping"),
    # A011
    *("reading", "writing", "tear up paper", "wear jacket", "take off jacket"),
    *("wear a shoe", "take off a shoe", "wear on glasses", "take off glasses", "put on a hat/cap"),
    # A021
    *("take off a hat/cap", "cheer up", "hand waving", "kicking something"),
    *("reach into pocket", "hopping (one foot jumping)", "jump up", "make a phone call/answer phone"),
    *("playing with phone/tablet", "typing on a keyboard"),
    # A031
    *("pointing to something with finger", "taking a selfie", "check time (from watch)", "rub two hands together"),
    *("nod head/bow", "shake head", "wipe face", "salute"),
    *("put the palms together", "cross hands in front (say stop)"),
    # A041
    *("sneeze/cough", "staggering"),
    *("falling", "touch head (headache)"),
    *("touch chest (stomachache/heart pain)", "touch back (backache)"),
    *("touch neck (neckache)", "nausea or vomiting condition"),
    *("use a fan (with hand or paper)/feeling warm", "punching/slapping other person"),
    # A051
    *("kicking other person", "pushing other person"),
    *("pat on back of other person", "point finger at the other person"),
    *("hugging other person", "giving something to other person"),
    *("touch other person's pocket", "handshaking"),
    *("walking towards each other", "walking apart from each other"),
    # A061
    *("put on headphone", "take off headphone", "shoot at the basket", "bounce ball", "tennis bat swing"),
    *("juggling table tennis balls", "hush (quite)", "flick hair", "thumb up", "thumb down"),
    # A071
    *("make ok sign", "make victory sign", "staple book", "counting money", "cutting nails"),
    *("cutting paper (using scissors)", "snapping fingers", "open bottle", "sniff (smell)", "squat down"),
    # A081
    *("toss a coin", "fold paper", "ball up paper", "play magic cube"),
    *("apply cream on face", "apply cream on hand back", "put on bag", "take off bag"),
    *("put something into a bag", "take something out of a bag"),
    # A091
    *("open a box", "move heavy objects", "shake fist", "throw up cap/hat", "hands up (both hands)"),
    *("cross arms", "arm circles", "arm swings", "running on the spot", "butt kicks (kick backward)"),
    # A101
    *("cross toe touch", "side kick"),
    *("yawn", "stretch oneself"),
    *("blow nose", "hit other person with something"),
    *("wield knife towards other person", "knock over other person (hit with body)"),
    *("grab other person's stuff", "shoot at other person with a gun"),
    # A111
    *("step on foot", "high-five"),
    *("cheers and drink", "carry something with other person"),
    *("take a photo of other person", "follow other person"),
    *("whisper in other person's ear", "exchange things with other person"),
    *("support somebody with hand", "finger-guessing game (playing rock-paper-scissors)"),
)

# classes that two people act, counted from 0: A050..A060 and A106..A120
TWO_PERSON = (*range(49, 60), *range(105, 120))
