"""Closed classes of English: the words that hold sentences together, by their most frequent class.

Articles, prepositions, pronouns, auxiliaries and conjunctions are few and hardly ever change, so a list tells them from
all other words without any model. A form with several classes stands under the one it has most often in running text
("that" as a conjunction, "to" as a particle, "her" as a determiner): such a choice moves a word within the function
words, hardly ever across to those of content. Forms that are often words of content (like, near, past) are left out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

WORDS = {
    "DET": "a an the this these those each every either neither no any some all both half such another "
    "what which whatever whichever my your his her its our their whose",
    "ADP": "of in on at by for from with without within into onto upon about above across after against "
    "along amid among amongst around as before behind below beneath beside besides between beyond "
    "despite down during except inside off out over per since through throughout toward towards "
    "under underneath until up via versus vs atop alongside amidst barring unlike notwithstanding",
    "PRON": "i you he she it we they me him us them who whom there myself yourself himself herself itself "
    "ourselves yourselves themselves oneself mine yours hers ours theirs someone somebody "
    "something anyone anybody anything everyone everybody everything noone nobody nothing none "
    "whoever whomever others thou thee thy thine ye",
    "AUX": "am is are was were be been being have has had having do does did will would shall should can "
    "could may might must ought cannot ca wo",
    "CCONJ": "and or but nor yet &",
    "SCONJ": "that if because although though unless whereas while whilst whether lest than when whenever "
    "where wherever once till how why",
    "PART": "to not n't 's",
    "NUM": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty "
    "ninety hundred thousand million billion trillion",
}
NAMES = ("May", "Will")
"""Names that are spelled like auxiliaries but for the capital letter."""
CLITICS = dict.fromkeys(("'re", "'ve", "'ll", "'d", "'m"), "AUX")
TAGS = ("DET", "ADP", "PRON", "AUX", "CCONJ", "SCONJ", "PART", "NUM", "PUNCT", "SYM", "CONTENT")
CLASS = {word: tag for tag, words in WORDS.items() for word in words.split()} | CLITICS
PIECE = re.compile(
    r"""<\w+> | @[-,.]@            # placeholders such as <unk>, and marks of WikiText
    | [^\W\d_]+?(?=n['’]t\b)      # do|n't
    | n['’]t\b | (?<=\w)['’](?:s|re|ve|ll|d|m)\b
    | \d+(?:[.,]\d+)*[^\W\d_]*      # 1,000.5 1980s 3rd
    | (?:[^\W\d_][\u0300-\u036f]*)+
    | (\S)\1*                       # one sign, or a run of it
    """,
    re.VERBOSE | re.IGNORECASE,
)


def pieces(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, stop, tag) of each word of a text, in order; all characters but white space are in one."""
    for found in PIECE.finditer(text):
        yield found.start(), found.end(), class_of(found.group())


def class_of(word: str) -> str:
    """One of TAGS: the list decides, then the kind of the first character; other words are CONTENT."""
    known = None if word in NAMES else CLASS.get(word.lower().replace("’", "'"))
    if known:
        return known
    kind = unicodedata.category(word[0])
    if kind[0] == "L":
        return "CONTENT"
    return {"N": "NUM", "P": "PUNCT"}.get(kind[0], "SYM")
