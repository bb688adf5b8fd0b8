"""Closed classes, verbs, measures and words in -ing of the English tagger; the rest is in `english_words`."""

from __future__ import annotations

from ernie_vilg_jax.annotation.taggers.english_words import word_set

# ---- Closed classes --------------------------------------------------------------------------------------------------
DETERMINERS = word_set("a an the no each every any some another either neither both all")
POSSESSIVES = word_set("my your his her its our their")
PRONOUNS = word_set(
    "i you he she it we they me him us them myself yourself himself herself itself ourselves yourselves themselves "
    "mine yours hers ours theirs everyone someone anyone everybody somebody anybody nobody everything something "
    "anything nothing oneself each-other"
)
OBJECT_PRONOUNS = word_set(
    "me him us them it you himself herself itself themselves someone something everyone everything"
)
PLURAL_SUBJECTS = word_set("i you we they who people men women children kids")
DEMONSTRATIVES = word_set("this that these those")
NUMERALS = word_set(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand "
    "thousands million millions dozen dozens half several many few couple-of tens quarter twenty-one twenty-five "
    "lots"
)
BE = word_set(
    "is are was were be been being am isn't aren't wasn't weren't it's he's she's that's there's they're we're "
    "you're i'm gets get got getting"
)
AUXILIARIES = BE | word_set(
    "has have had having do does did can could will would shall should may might must cannot can't don't doesn't "
    "didn't won't let's hasn't haven't"
)
MODALS = word_set(
    "can could will would shall should may might must cannot can't don't doesn't didn't won't to let's do does did"
)
PREPOSITIONS = word_set(
    "in on at of with by for from to into onto under over above below beneath beside besides between among amongst "
    "against along around across behind through throughout towards toward near inside outside within without upon "
    "off up down out about after before during since until till as like unlike per via amid amidst atop alongside "
    "underneath despite except past next than opposite"
)
BARE = word_set(
    "and or but nor so if while when where who whom whose which what why how because although though whether as "
    "then than there here not n't never always often sometimes usually just only also too very really quite rather "
    "almost nearly fully highly extremely ultra super incredibly slightly softly brightly together apart away back "
    "forward forth ahead again still already yet now soon later once twice even ever else instead maybe perhaps "
    "well far aside forwards backwards upside upwards downwards upward downward indoors outdoors nearby overhead "
    "abroad upstairs downstairs mid inside outside somewhere everywhere anywhere nowhere etc vs plus versus amid "
    "middle front left right is am et al de la du el le von van der s t d ll re ve m o oh wow hello please "
    "side-by-side face-to-face more most less least such same own other others much enough"
)
# Bare words that are attributes where a noun follows: the left hand, the other side.
BARE_OR_ADJECTIVE = word_set(
    "left right middle inside outside overhead nearby upside same own other more most less such front still back "
    "mid indoor outdoor far super"
)

# Nouns in -ing, unless an object follows.
NOUNS_IN_ING = word_set(
    "painting paintings building buildings drawing drawings lighting clothing evening morning ceiling king ring "
    "string wing railing awning crossing wedding meeting earring stocking dressing topping filling icing frosting "
    "pudding sibling duckling gosling dumpling viking spring thing something anything nothing everything bearing "
    "rendering setting ending opening beginning feeling being writing handwriting engraving etching carving siding "
    "roofing flooring paving scaffolding plumbing wiring packaging bedding upholstery seating parking housing "
    "lodging shopping skiing surfing snowboarding skateboarding fishing hunting camping hiking boxing wrestling "
    "fencing bowling gardening cooking baking knitting sewing advertising marketing engineering farming mining "
    "shipping sailing racing cycling exterior-clothing darling starling inkling lightning offspring wellbeing "
    "landing clearing turning braiding piercing piercings wings rings kings strings things sling bling swing"
)
# An -ing word that says what the noun after it is for stays a noun: fishing village.
PURPOSE_IN_ING = {
    "fishing": "village boat boats rod rods net nets pole line port harbor trawler vessel gear hook town dock ship hut",
    "living": "room rooms space area quarters",
    "dining": "room table hall area chair chairs set car",
    "swimming": "pool pools trunks suit cap goggles costume",
    "shopping": "mall center centre cart bag bags basket trolley street list district",
    "washing": "machine machines line",
    "parking": "lot lots garage meter space meters spot spaces spots",
    "running": "shoes shoe track water",
    "sewing": "machine kit",
    "sleeping": "bag bags mat car",
    "cutting": "board boards edge",
    "chopping": "board boards block",
    "rocking": "chair chairs horse",
    "hiking": "boots boot trail trails backpack path stick gear",
    "walking": "stick sticks path trail cane shoes",
    "boxing": "gloves glove ring match",
    "frying": "pan pans",
    "baking": "tray sheet pan dish soda powder",
    "cooking": "pot oil utensils show class pan",
    "landing": "page gear pad strip",
    "racing": "car cars bike track bicycle helmet horse suit",
    "sailing": "ship ships boat boats vessel yacht",
    "wedding": "dress cake ring rings gown bouquet ceremony couple photo party reception invitation",
    "drinking": "fountain water glass straw",
    "reading": "glasses room lamp nook chair corner",
    "writing": "desk table pad",
    "building": "blocks block site",
    "vending": "machine machines",
    "slot": "machine",
    "mixing": "bowl bowls desk console",
    "measuring": "tape cup cups spoon spoons",
    "knitting": "needles needle yarn",
    "climbing": "wall gear rope frame shoes",
    "riding": "boots helmet hat crop",
    "camping": "tent chair site gear trip van stove",
    "training": "room ground session shoes",
    "waiting": "room area",
    "meeting": "room rooms table",
    "conference": "room",
    "dressing": "room table gown",
    "ironing": "board",
    "diving": "board suit mask helmet",
    "surfing": "board",
    "serving": "tray dish plate spoon",
    "operating": "room table",
    "wrapping": "paper",
    "magnifying": "glass",
    "bathing": "suit suits cap",
    "welding": "mask helmet",
    "farming": "village tools equipment",
    "hunting": "dog dogs rifle lodge knife",
    "gaming": "chair desk setup console room keyboard mouse laptop",
    "skating": "rink",
    "bowling": "alley ball pin pins",
    "wine": "",
    "fencing": "mask",
    "lighting": "fixture fixtures",
    "painting": "style brush",
    "drawing": "style board book",
    "greeting": "card cards",
    "playing": "field card cards",
    "steering": "wheel",
    "spinning": "wheel top",
    "turning": "point",
    "stepping": "stones stone",
    "changing": "room table",
    "traveling": "bag",
    "carrying": "case",
    "touring": "bike",
    "loading": "dock",
    "shipping": "container containers box crate",
    "mining": "helmet town",
    "sitting": "room area",
    "filing": "cabinet",
    "king": "size",
    "string": "",
    "mountaineering": "boots",
    "recording": "studio",
    "crossing": "guard",
    "charging": "cable station",
    "packing": "box tape",
    "tracking": "shot",
}
# Count or measure before "of".
MEASURES = word_set(
    "pair group cup slice pile crowd bowl plate glass bottle piece row flock herd pack bunch bouquet stack couple "
    "set sheet loaf jar box basket bucket bag handful cluster swarm bundle heap drop pinch mug pot tray pitcher "
    "carton roll slab strand stick series lot variety collection array assortment selection dozen hundred thousand "
    "gang pride litter pod colony kilogram kilo gram liter litre pint gallon spoonful teaspoon tablespoon mouthful "
    "fistful armful wad batch bit chunk lump scoop serving portion platter plateful bowlful cupful crate barrel "
    "tub tube packet pouch sack brood fleet convoy trio duo quartet mound layer tier coil skein spool flight wedge "
    "clump tuft sprig stalk splash keg flask thermos pan ladle multitude plenty ton tons lots dash line team "
    "number patch ball block bar vase puddle band deck army squad gaggle crew bushel brick cone dollop dish ounce "
    "pound inch mile acre"
)
PLURAL_MEASURES = frozenset(
    {"loaves", "boxes", "bunches", "batches", "glasses", "dishes", "pinches", "patches", "pouches"}
    | {f"{word}s" for word in MEASURES}
)
# ---- Verbs -----------------------------------------------------------------------------------------------------------
# Base forms that are verbs where the place allows it (nouns after a determiner or an attribute).
VERBS = word_set(
    "walk run jump ride drive fly sit stand lie sleep eat drink play hold carry wear look watch read write draw "
    "paint sing dance swim surf ski skate climb crawl chase catch throw kick hit push pull lift drop fall rise "
    "float hang lean rest wait smile laugh cry shout talk speak chat listen hear see gaze stare peek peer point "
    "wave clap hug kiss touch pet feed cook bake cut slice chop stir pour wash clean wipe sweep fix repair build "
    "make sew knit weave dig plant water pick harvest gather collect cross enter leave arrive travel sail row "
    "paddle dive fish hunt shoot fight attack guard protect pose pray meditate study work teach learn help show "
    "give take bring put place set open close turn spin roll slide swing bounce balance juggle perform compete "
    "race win celebrate march cover surround fill overlook face reach grow bloom shine glow sparkle burn explode "
    "melt freeze flow drip splash crash break land park stop move go come stay live graze roam wander explore hike "
    "camp pack unpack load unload sell buy serve taste lick bite chew sniff bark meow howl roar nap doze relax "
    "enjoy use operate type call photograph wrap tie brush comb shave dress stretch bend kneel squat crouch leap "
    "hover soar glide perch nest cling stick lay reflect cast blow fade lead follow pass approach greet meet shake "
    "raise lower extend feature contain include display depict represent illustrate stack arrange decorate light "
    "illuminate hide emerge seem appear become speed braid yawn sneeze snore cough wink blink nod bow scream yell "
    "whisper sob frown grin giggle cheer applaud argue discuss interview direct conduct command salute tilt tip "
    "toss pitch strike smash punch wrestle tackle dodge duck dribble score skateboard snowboard cycle sprint jog "
    "trot gallop stroll stride tiptoe parade limp stumble trip slip tumble descend ascend dangle sway rock drift "
    "hop skip flip flap flutter swoop swirl twirl whirl rotate revolve circle orbit grip grab grasp clutch clasp "
    "snatch pluck pinch squeeze press rub scratch stroke pat tap knock drum strum hum whistle compose record film "
    "sketch carve sculpt mold craft assemble weld hammer drill saw nail screw polish scrub rinse mop dust vacuum "
    "iron fold sort pile haul drag tow tug hoist deliver ship mail send receive accept offer hand pay order "
    "purchase trade browse search seek find discover inspect examine check measure weigh count mix whisk blend "
    "knead grill roast fry boil steam toast season garnish sprinkle drizzle spread butter peel grate grind crush "
    "sip gulp swallow devour nibble munch gnaw peck stalk pounce hiss growl purr bleat chirp tweet crow croak buzz "
    "sting crack hatch breed nurse tend trim mow rake shovel thresh prune sow graft patrol arrest rescue save "
    "escape flee sneak creep lurk queue line board steer pedal navigate anchor dock moor launch collide erupt "
    "flood overflow rain snow thunder blaze flicker gleam glisten glitter twinkle shimmer beam radiate dominate "
    "frame border adorn drape recline lounge slouch snuggle cuddle nuzzle embrace comfort console tease scold "
    "lecture instruct coach train practice rehearse review prepare plan design create produce manufacture invent "
    "test experiment observe admire contemplate ponder think dream imagine remember want need like love hate "
    "prefer try attempt begin start continue finish end don remove unwrap untie tell ask answer explain present "
    "introduce announce recite preach sign print scan copy edit dial text video vote"
)
# Third persons that are more often plural nouns: verbs only before a determiner or pronoun, or after a pronoun.
RARELY_VERBS = word_set(
    "presents screens ships prints texts videos signs nurses trains saws nails screws hammers drills irons drums "
    "crows seasons circles orders hands loves needs dreams trades tests studies checks films records beams frames "
    "borders butters toasts drapes rests tips bows cheers lounges scores pitches plans designs lights plants "
    "slices stacks steps clouds flowers windows rocks trees waters parks boats cups heads faces eyes lines places "
    "boxes bikes fields guards hikes glasses shops stones benches spots drops falls springs rows rings waves stars "
    "streets nests races crosses shadows reflections fans bats bears ducks seals packs camps photographs pictures "
    "sails buses cars hats ties shoes gloves paints brushes buttons bottles plates bowls sticks balls bands bars "
    "dots stripes patterns uses types shows sets tops views points peaks ends"
)
# Participles that are attributes wherever they stand.
ALWAYS_ADJECTIVES = word_set(
    "detailed closed crowded old-fashioned bearded aged tired bored excited surprised abandoned haunted wooded "
    "rugged naked wicked crooked ragged sacred outdated unfinished unknown unnamed unidentified assorted winged "
    "horned freckled stained-glass broken worn frozen sunken torn bent lit sharp-focused interesting charming "
    "stunning amazing breathtaking outstanding fascinating exciting boring surprising disgusting heartwarming "
    "mouthwatering mouth-watering unsuspecting interlocking surrounding remaining existing oncoming incoming "
    "outgoing upcoming neighboring overwhelming appealing inviting striking"
)
# -ing words that need an object: at the start of a phrase they are verbs although a noun follows.
IRREGULAR_PLURALS = word_set("fish sheep deer people men women children mice geese feet teeth police cattle")
TRANSITIVE_IN_ING = word_set(
    "holding wearing playing riding eating drinking reading watching driving carrying making cooking cutting "
    "taking using showing having doing giving feeding chasing catching throwing kicking hitting pushing pulling "
    "lifting selling buying washing cleaning building fixing repairing painting drawing writing hugging kissing "
    "petting serving pouring stirring slicing chopping baking brushing picking collecting gathering harvesting "
    "crossing climbing exploring enjoying celebrating featuring containing depicting displaying representing "
    "covering overlooking facing leading following passing approaching touching grabbing gripping licking biting "
    "chewing sniffing guarding protecting attacking fighting shooting aiming raising opening closing turning "
    "bringing putting placing setting preparing performing practicing visiting teaching helping meeting greeting "
    "saving rescuing planting watering digging loading unloading wrapping tying dressing folding knitting casting "
    "emitting reflecting illuminating paddling"
)
PICTURE_MEDIA = word_set(
    "oil acrylic watercolor watercolour ink pencil charcoal chalk digital matte landscape wall line pen color "
    "colour finger portrait cave body silk"
)
GROUND_HEADS = word_set(
    "ring rings necklace bracelet earrings coin coins spoon spoons fork forks knife cutlery tray medal medals "
    "chain jewelry jewellery bar bars foil plate plates candlestick teapot goblet trophy crown bells bell"
)
# After a hyphen these make an attribute: snow-covered, heart-shaped.
ATTRIBUTE_ENDS = word_set(
    "like style styled free shaped sized themed inspired looking size type proof friendly resistant old new "
    "colored coloured covered filled lit made high tall length poly quality resolution angle eyed haired legged "
    "winged up-close tone faced fit speed level era century generation story storey tier lane to-wall ready rich "
    "deep wide long white black red blue green"
)
# ... and these before one: half-open, two-story.
ATTRIBUTE_STARTS = word_set(
    "high low full half multi semi ultra super hyper pre non anti long short wide black light dark double single "
    "two three four five six seven eight old mid far well bright pale deep all open hand neo"
)
# Nouns whatever stands around them.
NEVER_VERBS = word_set(
    "clothing evening morning ceiling king ring string wing railing awning wedding earring stocking topping "
    "pudding sibling duckling gosling dumpling viking thing something anything nothing everything handwriting "
    "siding roofing flooring scaffolding bedding upholstery housing lightning offspring darling starling wings "
    "rings kings strings things paintings buildings drawings sling lighting advertising bling piercings inkling"
)
# Verbs after a noun and after be: a man fishing.
ACTIVITIES = word_set(
    "shopping skiing surfing snowboarding skateboarding fishing hunting camping hiking boxing wrestling fencing "
    "bowling gardening cooking baking knitting sewing farming sailing racing cycling writing meeting parking "
    "landing"
)
