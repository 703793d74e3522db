import pytest

from exporters.names import StemNames, image_ending
from segstudio.images import AnnotatedImage, ImageKey


def image(reference: str, task_id: int = 1) -> AnnotatedImage:
    return AnnotatedImage(
        task_id=task_id,
        key=ImageKey("image"),
        reference=reference,
        height_px=1,
        width_px=1,
        regions=(),
        annotation_id=None,
        annotator_id=None,
        file_stem=f"long-task{task_id}",
    )


@pytest.mark.parametrize(
    ("reference", "ending"),
    [
        ("/data/upload/1/a.b.jpeg", ".jpeg"),
        ("https://host/x.PNG?sig=a.b#c.d", ".PNG"),
        ("/data/local-files/?d=dir.x%2Fimage.tif", ".tif"),
        ("s3://bucket/key%2Ejpg", ".jpg"),
        ("data:image/jpeg;base64,AAAA", ".jpeg"),
        ("data:text/plain,x", ""),
        ("no-ending", ""),
        (".jpg", ""),
        ("http://[broken/a.jpg", ""),
        ("", ""),
    ],
)
def test_the_ending_is_the_one_of_the_images_file(reference: str, ending: str) -> None:
    assert image_ending(reference) == ending


def test_a_name_of_its_own_is_kept_and_a_shared_one_made_longer() -> None:
    images = [image("/a/x.jpg", 1), image("/b/x.jpg", 2), image("/b/y.jpg", 3), image("", 4)]
    stems = StemNames()
    for one in images:
        stems.add(one)
    assert [stems.stem(one) for one in images] == ["long-task1", "long-task2", "y", "long-task4"]


def test_a_longer_name_never_takes_another_images_own() -> None:
    images = [image("/a/x.jpg", 1), image("/b/x.jpg", 2), image("/b/LONG-task1.jpg", 3)]
    stems = StemNames()
    for one in images:
        stems.add(one)
    assert [stems.stem(one) for one in images] == ["long-task1~", "long-task2", "LONG-task1"]
