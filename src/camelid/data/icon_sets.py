"""Icon sets as Iconify packs them: one JSON file with the inside of every SVG, and names in place of code points.

A set has its own names for emoji. Each function here lists what an emoji may be called in a set, best first; only
names whose pictures were looked at are in the tables, and an emoji whose picture shows something else is refused.
"""

from __future__ import annotations

import json
from pathlib import Path

from camelid.core.errors import DataError
from camelid.data.package_concepts import NamedEmoji
from camelid.data.packages import members

__all__ = ["names_in_fxemoji", "names_in_iconify", "names_in_streamline", "read_icons"]

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{body}</svg>'
)
DEFAULT_SIZE = {"left": 0, "top": 0, "width": 16, "height": 16}

# Emoji that the sets are too old for, so that the name has a picture of something else: the sport, a window on a
# screen, a revolver.
OTHER_THINGS = {"cricket", "window", "water-pistol"}

OLD_NAMES = {
    "flag-t-rkiye": "flag-for-turkey",
    "smiling-cat-with-heart-eyes": "smiling-cat-face-with-heart-eyes",
    "heart-exclamation": "heavy-heart-exclamation",
    "keyboard": "wired-keyboard",
}

# Mozilla's names that are neither CLDR's nor Unicode's, or are CLDR's for something else.
FXEMOJI_PAIRS = """
cat-face=cat cat=catside dog-face=dog dog=dogside mouse-face=mouse mouse=mouseside tiger-face=tiger
tiger=tigerside pig-face=pig pig=pigside pig-nose=pigsnout dragon-face=dragonhead dragon=dragonside
rabbit-face=bunny rabbit=bunnyside hamster=hampster leopard=leopardside spouting-whale=spurtingwhale
front-facing-baby-chick=frontfacingchick dove=doveofpeace evergreen-tree=evergreen fallen-leaf=fallingleaf
leaf-fluttering-in-wind=leaffluttering hot-pepper=chilipepper fish-cake-with-swirl=fishcakeswirl
fork-and-knife-with-plate=forkknife necktie=tie t-shirt=mansshirt womans-clothes=womansshirt purse=pinkwallet
clutch-bag=makeupbag mans-shoe=mensshoe running-shoe=mensrunner high-heeled-shoe=heels womans-sandal=sandals
womans-boot=boot gem-stone=gem sunglasses=darksunglasses closed-umbrella=umbrella keyboard=wiredkeyboard
muted-speaker=speakercancellation speaker-medium-volume=speakeronesoundwave
speaker-high-volume=speaker3soundwaves bell-with-slash=bellcancellation studio-microphone=studiomic
control-knobs=controlknob mobile-phone=cellphone mobile-phone-with-arrow=phonerightarrowleft
telephone-receiver=telephonereceiver2 computer-mouse=threebuttonmouse floppy-disk=floppydisk2
video-camera=handheldvideocamera videocassette=videocasette magnifying-glass-tilted-left=leftmagnifyingglass
magnifying-glass-tilted-right=rightmagnifyingglass notebook-with-decorative-cover=notebookdecorativecover
bookmark-tabs=bookmarktab yen-banknote=banknoteyen dollar-banknote=banknotedollar euro-banknote=banknoteeuro
pound-banknote=banknotepound chart-increasing-with-yen=chartupwardstrendyen
envelope-with-arrow=envelopedownarrowabove outbox-tray=outbox
closed-mailbox-with-raised-flag=closedmailboxraised closed-mailbox-with-lowered-flag=closedmailboxlowered
open-mailbox-with-raised-flag=openmailboxraised open-mailbox-with-lowered-flag=openmailboxlowered
ballot-box-with-ballot=ballottboxwithballott fountain-pen=lowerleftfountainpen pen=lowerleftpen
paintbrush=lowerleftpaintbrush crayon=lowerleftcrayon spiral-calendar=spiralcalendarpad
chart-increasing=chartupwardstrend chart-decreasing=chartdownwardstrend locked-with-key=lockandkey
dagger=daggerknife clamp=compression
waving-hand=waving hand-with-fingers-splayed=raisedhandsfingerssplayed raised-hand=hand
vulcan-salute=raisedhandpartfingers ok-hand=aok backhand-index-pointing-left=left
backhand-index-pointing-right=right backhand-index-pointing-up=up backhand-index-pointing-down=down
index-pointing-up=index oncoming-fist=fistedhand clapping-hands=clap raising-hands=high5 open-hands=hands
folded-hands=pray writing-hand=leftwritinghand flexed-biceps=flexbicep
old-man=gpa old-woman=gma person-frowning=frown person-pouting=pout person-gesturing-no=nogesture
person-gesturing-ok=okgesture person-tipping-hand=waitress person-raising-hand=handup person-bowing=bowing
police-officer=cop detective=sleuthspy construction-worker=construct person-wearing-turban=turban
person-with-skullcap=guapimao person-with-veil=bride person-getting-massage=headmassage
person-walking=walking person-running=running person-in-suit-levitating=maninbusinesssuitlevitating
person-golfing=golfer person-swimming=swimming person-lifting-weights=weightlifter
speaking-head=speakingheadinsilhouette bust-in-silhouette=contact busts-in-silhouette=contact2
people-with-bunny-ears=bunnyears
confetti-ball=confetti ribbon=bow wrapped-gift=present reminder-ribbon=reminder tennis=tennisball
mahjong-red-dragon=mahjong framed-picture=framewithpicture
grinning-face=grin grinning-face-with-big-eyes=grinwide grinning-face-with-smiling-eyes=grinwideeyes
beaming-face-with-smiling-eyes=grineyes grinning-squinting-face=grinsquint grinning-face-with-sweat=grinsweat
face-with-tears-of-joy=grintears slightly-smiling-face=smallsmile winking-face=winking
smiling-face-with-smiling-eyes=smileeyes smiling-face-with-halo=halo smiling-face-with-heart-eyes=hearteyes
face-blowing-a-kiss=kissing kissing-face=kiss kissing-face-with-closed-eyes=kissclosedeyes
kissing-face-with-smiling-eyes=kisseyes face-savoring-food=smiletongue face-with-tongue=tongueout
squinting-face-with-tongue=tongueoutwink2 neutral-face=neutral expressionless-face=expressionless
face-without-mouth=nomouth smirking-face=smirk unamused-face=unamused grimacing-face=grimacing
relieved-face=relieved pensive-face=pensive sleepy-face=sleepy sleeping-face=sleeping
face-with-medical-mask=medicalmask smiling-face-with-sunglasses=sunglasses confused-face=confused
worried-face=worried slightly-frowning-face=smallfrown face-with-open-mouth=openmouth hushed-face=hushed
astonished-face=astonished flushed-face=flushed frowning-face-with-open-mouth=frownmouth
anguished-face=anguish fearful-face=fearful anxious-face-with-sweat=coldsweat
sad-but-relieved-face=dissapointedrelief crying-face=crying loudly-crying-face=loudlycrying
face-screaming-in-fear=screamfear confounded-face=confounded persevering-face=perservere
disappointed-face=disappointed downcast-face-with-sweat=sweat weary-face=weary tired-face=tired
face-with-steam-from-nose=triumph enraged-face=pouting angry-face=angry smiling-face-with-horns=devilhorns
goblin=japaneseangrymask pile-of-poo=poo see-no-evil-monkey=monkeysee hear-no-evil-monkey=monkeyhear
speak-no-evil-monkey=monkeyspeak
heart-with-arrow=heartarrow heart-with-ribbon=heartribbon two-hearts=2hearts yellow-heart=heartyellow
green-heart=heartgreen purple-heart=heartpurple anger-symbol=anger sweat-droplets=sweatsplash
dashing-away=dash speech-balloon=speechbubble thought-balloon=thoughtbaloon
potable-water=potablewatersystem no-one-under-eighteen=nooneunder18symbol
skull-and-crossbones=blackskullcrossbones om=omsymbol latin-cross=heavylatincross
dotted-six-pointed-star=sixpointedstarwithdot repeat-button=clockwiserightwardsleftwardscirclearrows
repeat-single-button=clockwiserightwardsleftwardscirclearrowsone right-arrow-curving-up=arrowrightwardsupwards
right-arrow-curving-down=arrowrightwardsdownwards
counterclockwise-arrows-button=anticlockwiseupwardsanddownwardsarrows play-button=blackrightpointingarrow
reverse-button=blackleftpointingarrow upwards-button=uppointingsmallredtrisngle
downwards-button=downpointingsmallredtrisngle dim-button=lowbrightness bright-button=highbrightness
diamond-with-a-dot=diamondshapewithdotinside globe-showing-europe-africa=europeafricaglobe
globe-showing-americas=americasglobe globe-showing-asia-australia=asiaaustraliaglobe
globe-with-meridians=meridianglobe map-of-japan=silhouetteohjapan snow-capped-mountain=snowmountains
beach-with-umbrella=beachumbrella houses=housebuildings tokyo-tower=toykotower
bullet-train=highspeedtrainbulletnose racing-car=racecar hourglass-not-done=hourglassflowingsand
mantelpiece-clock=manltepiececlock sun=sunrays cloud-with-lightning=stormcloud
sun-behind-small-cloud=whitesunsmallcloud sun-behind-large-cloud=whitesunbehindcloud
sun-behind-rain-cloud=sunraincloud cloud-with-rain=raincloud cloud-with-snow=snowcloud high-voltage=bolt
water-wave=wave
flag-china=chineseflag flag-italy=italianflag flag-south-korea=koreaflag flag-russia=russianflag
flag-spain=spanishflag flag-united-kingdom=greatbritainflag flag-france=franceflag flag-japan=japanflag
"""
FXEMOJI_NAMES = dict(pair.split("=") for pair in FXEMOJI_PAIRS.split())

# Names that belong to another emoji, and pictures that come out wrong: a black square, a star that is white.
FXEMOJI_TAKEN = {*FXEMOJI_NAMES.values(), "tramcar", "whitemediumstar"}

# Also the country's flag, glasses that are dark, a bubble of thought, a bag of ice, and no hand at the chin.
STREAMLINE_REFUSED = OTHER_THINGS | {
    "turkey", "glasses", "right-anger-bubble", "face-with-thermometer", "thinking-face"
}  # fmt: skip


def read_icons(archive: Path) -> dict[str, bytes]:
    """All icons of an Iconify package as SVG files, by name; an alias is a name of its own."""
    found = dict(members(archive, r"package/icons\.json"))
    if len(found) != 1:
        raise DataError(f"{archive}: no package/icons.json in it")
    (data,) = found.values()
    icons = json.loads(data)
    size = {key: icons.get(key, default) for key, default in DEFAULT_SIZE.items()}
    pictures = {name: SVG.format(**{**size, **icon}).encode() for name, icon in icons["icons"].items()}
    for name, alias in icons.get("aliases", {}).items():
        # One that turns or mirrors its parent would need a transformation; none of ours does.
        if set(alias) == {"parent"} and alias["parent"] in pictures:
            pictures[name] = pictures[alias["parent"]]
    return pictures


def names_in_iconify(emoji: NamedEmoji) -> tuple[str, ...]:
    """In sets that Iconify named itself: today's English name of CLDR, an older one, or that of Unicode."""
    slug = emoji.slug
    names = [OLD_NAMES.get(slug, slug), slug, emoji.unicode_slug]
    if emoji.group == "Flags":
        names.append(f"flag-for-{slug.removeprefix('flag-')}")
    if emoji.subgroup == "person-role":
        names.append(f"man-{slug}")
    return tuple(names) if slug not in OTHER_THINGS else ()


def names_in_fxemoji(emoji: NamedEmoji) -> tuple[str, ...]:
    """In Mozilla's set: what Mozilla says, or the name of Unicode or CLDR in one word."""
    if name := FXEMOJI_NAMES.get(emoji.slug):
        return (name,)
    words = [slug.replace("-", "") for slug in (emoji.unicode_slug, emoji.slug)]
    is_other = emoji.slug in OTHER_THINGS
    return () if is_other else tuple(word for word in words if word not in FXEMOJI_TAKEN)


def names_in_streamline(emoji: NamedEmoji) -> tuple[str, ...]:
    """In Streamline's set, which numbers the drawings of one thing: the first of them."""
    slugs = [emoji.slug, emoji.unicode_slug]
    if emoji.subgroup == "country-flag":
        slugs = [emoji.slug.removeprefix("flag-")]
    elif emoji.slug in STREAMLINE_REFUSED:
        return ()
    return tuple(name for slug in slugs for name in (slug, f"{slug}-1"))
