# SPDX-License-Identifier: MIT
"""What stands on the sample pages. Written for this project; every name and place is invented.

A document is a list of pages, a page a list of paragraphs; a paragraph that starts with "# " is
set as a heading. The same lists become the pages and the texts to compare with.
"""

HARBOUR_LETTER = [
    [
        "# Fennwick Harbour Office",
        "12 March 1987",
        "Dear Miss Abernathy,",
        "Thank you for your patience during the long winter repairs. The north pier has now been "
        "inspected from end to end, and I can report that all but four of the old timbers will "
        "stay where they are. The divers found the stone footing dry and firm, which is more than "
        "anybody in this office had dared to hope for.",
        "You asked whether the small crane could be moved before the herring boats return. It "
        "can, but only at spring tide, and only if the railway lends us its flat wagon for two "
        "days. I have written to the station master and expect his answer by Friday.",
        "The cost of the work so far is 4,318 pounds and 60 pence, a little under the estimate "
        "of last autumn. A full account is enclosed with this letter.",
    ],
    [
        "# Account of the repairs",
        "Timber was bought from two yards. The first delivery, of 36 beams, came by water on 9 "
        "January and was unloaded in a single afternoon. The second was held up by snow on the "
        "moor road until the end of the month.",
        "Seven men were hired by the week and two by the day. Nobody was hurt. One hammer, one "
        "lantern and about forty feet of rope were lost to the sea and are not worth claiming.",
        "Paint for the lamp posts has been ordered but not yet paid for. The painter asks for a "
        "dry week in April, and so does everyone else.",
        "I remain, with kind regards,",
        "Tobias Wrenfield, Harbour Master",
    ],
]

MINUTES = [
    [
        "# Minutes of the Library Committee",
        "The committee met on Tuesday evening in the reading room. Nine members were present and "
        "three had sent their apologies. The lamp over the long table was found to be broken "
        "again, and a new one was promised before the next meeting.",
        "The librarian reported that 1,204 books had been lent since the summer, nearly a third "
        "of them to children. Eleven volumes had not come back. It was agreed to write to the "
        "borrowers kindly, and only once.",
    ],
    [
        "# Purchases",
        "An atlas of the northern coast, two dictionaries and a set of county maps were approved. "
        "The offer of a stuffed owl was declined with thanks.",
        "Mr Oldcastle asked that the windows be opened for one hour each morning, whatever the "
        "weather. The motion was carried by five votes to four.",
        "There being no other business, the chair closed the meeting at half past nine.",
    ],
]

NOTICE = [
    [
        "# PUBLIC NOTICE",
        "The footbridge at Millers Lane will be closed from Monday 4 May until further notice. "
        "Walkers are asked to use the ford below the weir, where stepping stones have been laid.",
        "Horses and carts must go round by the turnpike. Children should not play on the "
        "scaffolding.",
        "By order of the Parish Council",
    ],
]

RECEIPT = [
    [
        "# Corner Bakery",
        "Receipt number 20457",
        "Two rye loaves at 1.45 each, together 2.90",
        "Six seeded rolls at 0.35 each, together 2.10",
        "One plum cake, whole, 7.25",
        "Total 12.25, paid in cash",
        "Thank you and come again",
    ],
]

SURVEY = [
    [
        "# Field notebook, first sheet",
        "Started from the old boundary stone at seven in the morning with clear air and no wind. "
        "The first chain was laid along the hedge to the gate, and the second from the gate to "
        "the lone ash tree on the bank.",
        "Height of the bank above the stream: eleven feet and a half.",
    ],
    [
        "# Field notebook, second sheet",
        "The stream has moved since the last survey. Its bend now lies forty paces further east, "
        "and the marsh behind it carries reeds where the map still shows a meadow.",
        "Soil dark and heavy. Two herons seen, and the tracks of an otter.",
    ],
    [
        "# Field notebook, third sheet",
        "Rain from noon. The instruments were carried back under an oilcloth and are unharmed. "
        "The angles of the church tower and of the windmill were each read three times and agree "
        "within half a minute.",
        "Work ended at five.",
    ],
]

CATALOGUE_CARD = [
    [
        "# Thornbury, Agnes",
        "A Short History of Salt Roads",
        "With nine maps and an index of place names",
        "Second edition, 212 pages, bound in green cloth",
        "Shelf 14, third from the left",
    ],
]

INDEX_CARD = [
    [
        "# Accession 3391",
        "Brass sextant in a walnut box",
        "Gift of the widow of Captain Lorimer",
        "One mirror cracked, otherwise complete",
    ],
]

TELEGRAM = [
    [
        "# TELEGRAM",
        "ARRIVING THURSDAY BY THE EVENING TRAIN STOP",
        "PLEASE MEET WITH THE LARGE CART STOP",
        "BRINGING SEVEN CRATES AND ONE PARROT STOP",
        "DO NOT TELL GRANDMOTHER STOP",
        "LEOPOLD",
    ],
]

# One page, turned three ways; enough letters for its direction to be told.
TURNED = [
    [
        "# On keeping bees in a walled garden",
        "A wall gives shelter from the wind, but it also makes the bees climb steeply when they "
        "leave the hive, and a bee that climbs does not sting the gardener. Place the hives with "
        "their backs to the wall and their doors to the morning sun.",
        "Let the grass grow long on both sides, and keep a shallow dish of water near by, filled "
        "with pebbles on which the bees can stand. They drink more than one would think.",
        "In a good year a single hive will give thirty pounds of honey. In a bad year leave them "
        "all of it.",
    ],
    [
        "# On pruning old apple trees",
        "An apple tree that has been left alone for twenty years should not be cut back in a "
        "single winter. Take out the dead wood first, and in the next year the branches that "
        "cross, and only then think about the shape of the crown.",
        "A sharp saw and a slow hand do more good than any paint or paste on the wound. The tree "
        "closes it by itself when the cut is clean and lies close to the collar of the branch.",
        "Leave one ladder leaning on the trunk through the summer. It reminds the owner to look "
        "up.",
    ],
    [
        "# On drying herbs for the kitchen",
        "Gather the leaves late in the morning, when the dew has gone but before the sun has "
        "drawn out their scent. Tie them in small bunches, no thicker than a thumb, and hang "
        "them where the air moves and the light does not reach.",
        "Thyme and marjoram are ready within a week. Mint needs ten days, and sage longer still. "
        "When the stalk snaps instead of bending, strip it into a jar and close the lid.",
        "Write the name and the month on every jar, for by Christmas they will all look alike.",
    ],
]

CROPPED = [
    [
        "# Signal book, page 31",
        "A single blue flag at the yard arm means that the pilot is wanted. Two blue flags mean "
        "that the pilot is wanted at once. Three are never flown, for by then the ship is on the "
        "sand.",
    ],
]
CROPPED_AWAY = "This line lies outside the crop box and nobody should read it"

LEDGER = [
    [
        "# Private ledger",
        "Opened with the word heron. Balance carried forward from the old book: 871 crowns.",
        "Received from the sale of the grey mare, 95 crowns. Paid to the wheelwright, 12 crowns "
        "and a goose.",
        "Nothing is owed to anyone, and three people owe something to us.",
    ],
]

BLANK_BETWEEN = [
    [
        "# Ferry timetable",
        "The ferry leaves the east bank at six, nine, noon and four. It waits for nobody but the "
        "doctor and the post.",
    ],
    [],
    [
        "# Fares",
        "Adults pay ten pence and children five. A bicycle travels free when its owner helps to "
        "pull the rope.",
    ],
]

INVITATION = [
    [
        "# You are invited",
        "to the opening of the new reading room on Saturday the 21st of June at three in the "
        "afternoon. There will be tea, a short speech and a shorter concert.",
        "Please bring a book that you no longer need and take home one that you do.",
    ],
]

PARISH_REGISTER = [
    [
        "# Register of bells",
        "The tenor was cast in 1742 and weighs eighteen hundredweight. It was turned once, in "
        "1903, and rings a quarter tone flat in frost.",
    ],
]

PARISH_BILL = [
    [
        "# Bill for the church clock",
        "Cleaning the movement and fitting one new wheel",
        "Regilding both hands and the figure seven",
        "Forty days at the old price",
    ],
]

WEEK_MONDAY = [
    [
        "# Monday",
        "Counted the sheep on the upper pasture and found one more than on Sunday.",
        "Wrote to the neighbour about it.",
    ],
]

WEEK_TUESDAY = [
    [
        "# Tuesday",
        "The neighbour came with a lantern and a dog. The dog knew the sheep at once.",
        "Lent him a rope for the way home.",
    ],
]

NEWSPAPER_TITLE = "The Fennwick Courier"
NEWSPAPER_COLUMNS = [
    [
        "A whale was seen off the point on Wednesday by the crew of two fishing boats. It was "
        "longer than either of them and showed no interest in their nets. The younger skipper "
        "said that it looked at him for some time and then sank without a sound.",
        "The schoolmaster has asked that anyone who sees it again should write down the hour and "
        "the state of the tide.",
    ],
    [
        "The price of coal has risen for the third month in a row. Dealers blame the strike at "
        "the docks, and the dockers blame the dealers. Meanwhile the baker has begun to heat his "
        "oven with driftwood, and the bread tastes faintly of salt.",
        "Readers who own a handcart may earn a shilling a day by carrying wood from the beach to "
        "the market square.",
    ],
]

BERICHT = [
    [
        "# Bericht über die Mühle",
        "Die alte Mühle am Bächlein wurde im März gründlich geprüft. Das große Rad läuft wieder "
        "gleichmäßig, doch zwei Schaufeln müssen vor dem Frühjahr ersetzt werden.",
        "Der Müller wünscht sich außerdem eine höhere Mauer gegen das Hochwasser. Über die Kosten "
        "wird später entschieden.",
    ],
]

TIDE_TABLE_TITLE = "High water at the bar"
TIDE_TABLE = [
    ["Day", "Morning", "Height", "Evening", "Height"],
    ["Monday", "04:12", "3.8 m", "16:41", "4.0 m"],
    ["Tuesday", "05:03", "4.1 m", "17:30", "4.3 m"],
    ["Wednesday", "05:51", "4.4 m", "18:17", "4.5 m"],
    ["Thursday", "06:38", "4.6 m", "19:02", "4.6 m"],
    ["Friday", "07:24", "4.6 m", "19:47", "4.5 m"],
    ["Saturday", "08:10", "4.5 m", "20:33", "4.3 m"],
    ["Sunday", "08:58", "4.2 m", "21:21", "4.0 m"],
]

FORM_TITLE = "Booking form for the boat house"
FORM_FIELDS = [
    ("Name", "Philippa Marlow"),
    ("Date of arrival", "18 August"),
    ("Number of nights", "five"),
    ("Remarks", "Please leave a second oar"),
]
FORM_NOTE = "Checked by the warden"
