from kerastoolkit.data.paragraphs import with_paragraphs
from kerastoolkit.data.strings import held_source, texts
from kerastoolkit.experiment import Data

LONG, OTHER = "a paragraph of more than thirty letters", "another of more than thirty letters, too"
KOREAN = "가나다라마바사아자차" * 4
DOCUMENTS = [f"Headline\n\n{LONG}\n\n{OTHER}", LONG, f"{KOREAN}\n\nshort"]


def data():
    columns = {"document": DOCUMENTS, "summary": ["x", "y", "z"]}
    sources = {split: held_source(columns) for split in ("train", "validation", "test")}
    return Data("news", **sources, inputs=("document",), encoded=False, about={}, notes=("a note",))


def test_training_has_each_long_paragraph_of_several_as_its_own_summary_besides():
    found = with_paragraphs(data())
    assert list(texts(found.train, "document")) == [*DOCUMENTS, LONG, OTHER, KOREAN]
    assert list(texts(found.train, "summary")) == ["x", "y", "z", LONG, OTHER, KOREAN]
    assert found.notes == ("a note", "training examples: 3 documents and 3 of their paragraphs")


def test_validation_and_test_stay_as_they_are():
    found = with_paragraphs(data())
    assert found.validation is not found.train and found.validation.size == found.test.size == 3
