"""What a token is, in many scripts, by hand; and what Unicode's own names and the first tokeniser say of it."""

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eqspike_seq.data import tokens
from eqspike_seq.data.tokens import SPACELESS, letters, normalised, tokenise

FIRST = re.compile(r"[a-z0-9]+(?:'[a-z]+)?|[!?]")  # written out once more, so that ASCII texts keep their tokens
ASCII = st.text(st.characters(max_codepoint=127)) | st.text(st.sampled_from("aZ9'!? _<br />\n"))


@pytest.mark.parametrize("tokeniser", ["unicode", "ascii"])
@settings(deadline=None)
@given(text=ASCII)
@example(text="Don't STOP!<br />It's 10/10, isn't it? rock'n'roll a_b 'tis 5'5 it's5")
def test_ascii_texts_have_the_tokens_that_they_always_had(tokeniser: str, text: str) -> None:
    expected = [t for t in FIRST.findall(text.lower().replace("<br />", " ")) if len(t) <= 64]
    assert tokenise(text, tokeniser) == expected
    assert [t for t in tokens._unicode().findall(normalised(text, tokeniser)) if len(t) <= 64] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't STOP!<br />It's 10/10, isn't it?", "don't stop ! it's 10 10 isn't it ?"),
        ("Größenwahn für MAẞE und Masse: STRASSE", "größenwahn für maße und masse strasse"),
        ("fu\u0308r für FU\u0308R", "für für für"),
        ("L’homme qu'il a e\u0301té, aujourd'hui\u00a0!", "l'homme qu'il a été aujourd'hui !"),
        ("İstanbul istanbul ISPARTA ısrar", "istanbul istanbul isparta ısrar"),
        ("Лучший фильм! Объём, ЁЛКА", "лучший фильм ! объём ёлка"),
        ("ΟΔΟΣ οδός Ὀδυσσεύς", "οδος οδός ὀδυσσεύς"),
        ("这部电影很好！不好看？", "这 部 电 影 很 好 ! 不 好 看 ?"),
        ("iPhone手机 3月 𠮷野", "iphone 手 机 3 月 𠮷 野"),
        ("ラーメンを食べた。か\u3099く時々", "ラ ー メ ン を 食 べ た が く 時 々"),
        ("葛\U000e0100飾", "葛 飾"),
        ("ขอบคุณ ๑๒ ครั้ง", "ข อ บ คุ ณ ๑๒ ค รั้ ง"),
        ("ເດັກ မြန်မာ ខ្មែរ", "ເ ດັ ກ မြ န် မာ ខ្ មែ រ"),
        ("كِتَابٌ جميل، هل أعجبك؟", "كِتَابٌ جميل هل أعجبك ?"),
        ("می‌خواهم ٣٤", "میخواهم ٣٤"),
        ("हिन्दी में क्या? क्षमा", "हिन्दी में क्या ? क्षमा"),
        ("좋은 영화\u1112\u1161\u11ab", "좋은 영화한"),
        ("toll😀😀 👍🏽👍 ❤️❤", "toll 😀 😀 👍 👍 ❤ ❤"),
        ("👨‍👩‍👧 🇩🇪🇫🇷 🏳️‍🌈1️⃣ ★☆", "👨‍👩‍👧 🇩🇪 🇫🇷 🏳‍🌈 1⃣ ★ ☆"),
        ("Donau\u00addampf, \ufeffSchluss — „nein“ 5 €", "donaudampf schluss nein 5"),
        ("\u0301\u200d… · ®", ""),
        ("ü" * 64 + " " + "ü" * 65, "ü" * 64),
    ],
)
def test_words_of_many_scripts(text: str, expected: str) -> None:
    assert tokenise(text, "unicode") == expected.split()


def test_the_first_tokeniser_is_as_it_was() -> None:
    assert tokenise("Ein schöner Tag, 茶 2!", "ascii") == ["ein", "sch", "ner", "tag", "2", "!"]


@settings(deadline=None)
@given(st.text())
@example("I\u0307\u0328 \u0130\u0328 J\u030c e\u200c\u0301 \u1100\u1161 \u0344 \uf900")
def test_equal_texts_have_equal_tokens(text: str) -> None:
    """Canonically equivalent texts (NFC, NFD), and a text made of the tokens found."""
    found = tokenise(text, "unicode")
    assert found == tokenise(unicodedata.normalize("NFC", text), "unicode")
    assert found == tokenise(unicodedata.normalize("NFD", text), "unicode")
    assert tokenise(" ".join(found), "unicode") == found


@settings(deadline=None)
@given(st.text(st.characters(categories=["L", "M", "Zs"]), max_size=60))
def test_every_letter_is_in_a_token(text: str) -> None:
    text = normalised(text, "unicode")
    assert letters(t for t in text.split() if len(t) <= 64) == letters(tokenise(text, "unicode")) or len(text) > 64


def test_scripts_without_spaces_are_those_of_their_names() -> None:
    """Every letter of a script is read alone if, and only if, its name in Unicode begins with that of the script."""
    begins = (
        "THAI CHAR", "LAO ", "MYANMAR ", "KHMER ", "TAI LE ", "NEW TAI LUE ", "TAI THAM ", "TAI VIET ", "BALINESE ",
        "JAVANESE ", "CJK UNIFIED", "CJK COMPAT", "HIRAGANA ", "KATAKANA", "HALFWIDTH KATAKANA", "BOPOMOFO ",
        "IDEOGRAPHIC ", "VERTICAL KANA", "VERTICAL IDEOGRAPHIC", "MASU", "HENTAIGANA", "MINNAN TONE",
    )  # fmt: skip
    blocks = {code for ranges in SPACELESS.values() for first, last in ranges for code in range(first, last + 1)}
    for code in range(0x40000):
        char = chr(code)
        if char.isalpha():
            assert (code in blocks) == unicodedata.name(char, "").startswith(begins), hex(code)
            if not unicodedata.normalize("NFC", char).isascii() and unicodedata.normalize("NFC", char) == char:
                alone = tokenise(f"a{char.lower()}", "unicode") == ["a", *tokenise(char, "unicode")]
                assert alone == (code in blocks), hex(code)
