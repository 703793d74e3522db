"""Webhooks and tabs of ours are made once, changed in place and removed; others' stay."""

import pytest

from segstudio.client import connect
from segstudio.errors import ServerError
from segstudio.writeback import ensure_tab, ensure_webhook, remove_tab, remove_webhooks
from tests.segstudio.fake_server import Answer, FakeServer

TOKEN = "0123456789abcdef0123456789abcdef01234567"
URL = "http://127.0.0.1:9095/"
FILTERS = ({"filter": "filter:tasks:data.qa_verdict", "operator": "equal", "value": "rework"},)


class FakeList:
    """Webhooks or tabs: GET lists, POST adds, PATCH changes, DELETE removes."""

    def __init__(self, items):
        self.items = {one["id"]: one for one in items}

    def __call__(self, asked):
        parts = [part for part in asked.path.split("/") if part]
        number = int(parts[-1]) if parts[-1].isdigit() else None
        if asked.method == "GET":
            return list(self.items.values())
        if asked.method == "DELETE":
            del self.items[number]
            return Answer(204, b"")
        number = number or max(self.items, default=0) + 1
        self.items[number] = {**self.items.get(number, {}), **asked.body, "id": number}
        return self.items[number]


def test_a_webhook_is_made_once_and_changed_in_place():
    fake = FakeList([{"id": 1, "project": 1, "url": "http://other/", "headers": {}}])
    with FakeServer(fake) as server, connect(server.url, TOKEN) as client:
        assert ensure_webhook(client, 1, URL, {"X-Ours": "a"}, ["ANNOTATION_CREATED"]) == 2
        assert ensure_webhook(client, 1, URL, {"X-Ours": "b"}, ["ANNOTATION_CREATED"]) == 2
    assert fake.items[2]["headers"] == {"X-Ours": "b"}
    assert fake.items[2]["send_for_all_actions"] is False
    assert len(fake.items) == 2


def test_only_webhooks_with_our_header_are_removed():
    fake = FakeList(
        [
            {"id": 1, "project": 1, "url": URL, "headers": {"x-ours": "a"}},
            {"id": 2, "project": 1, "url": "http://elsewhere/", "headers": {"X-Ours": "a"}},
            {"id": 3, "project": 1, "url": URL, "headers": {"X-Theirs": "a"}},
            {"id": 4, "project": None, "url": URL, "headers": {"X-Ours": "a"}},
        ]
    )
    with FakeServer(fake) as server, connect(server.url, TOKEN) as client:
        assert remove_webhooks(client, 1, "X-Ours", URL) == 1
        assert remove_webhooks(client, 1, "X-Ours") == 1
    assert sorted(fake.items) == [3, 4]


def test_a_refused_address_is_explained():
    with (
        FakeServer(lambda asked: [] if asked.method == "GET" else Answer(403, {})) as server,
        connect(server.url, TOKEN) as client,
        pytest.raises(ServerError, match="SSRF_PROTECTION_ENABLED=false"),
    ):
        ensure_webhook(client, 1, URL, {"X-Ours": "a"}, ["ANNOTATION_CREATED"])


def tab(number, title, *items):
    return {"id": number, "data": {"title": title, "filters": {"items": list(items)}}}


def test_a_tab_is_removed_by_title_and_filters_and_seen_to_be_gone():
    opened = {**FILTERS[0], "child_filter": None}  # as the Data Manager saves it
    other = {**FILTERS[0], "value": "ok"}
    fake = FakeList([tab(1, "Default"), tab(2, "QA", opened), tab(3, "QA", other), tab(4, "QA")])
    with FakeServer(fake) as server, connect(server.url, TOKEN) as client:
        assert remove_tab(client, 1, "QA", FILTERS, dry_run=True) == 1
        assert sorted(fake.items) == [1, 2, 3, 4]
        assert remove_tab(client, 1, "QA", FILTERS) == 1
        assert remove_tab(client, 1, "QA", FILTERS) == 0
    assert sorted(fake.items) == [1, 3, 4]


def test_a_tab_with_a_further_filter_of_somebodys_is_still_the_one_that_was_made():
    more = {"filter": "filter:tasks:id", "operator": "greater", "value": 5}
    fake = FakeList([tab(1, "Default"), tab(2, "QA", more, *FILTERS)])
    with FakeServer(fake) as server, connect(server.url, TOKEN) as client:
        assert remove_tab(client, 1, "QA", FILTERS) == 1
    assert sorted(fake.items) == [1]


ORDER = ["tasks:data.qa_miou"]
THEIRS = {"filter": "filter:tasks:id", "operator": "greater", "value": 5}
HIDDEN = {"explore": ["tasks:agreement"], "labeling": []}


@pytest.mark.parametrize(
    "items, conjunction",
    [
        ([*FILTERS], "and"),
        ([THEIRS, *FILTERS], "or"),
        ([{**FILTERS[0], "value": "ok"}], "and"),
    ],
)
def test_a_tab_that_is_there_stays_as_its_people_made_it(items, conjunction):
    data = {
        "title": "QA",
        "filters": {"conjunction": conjunction, "items": items},
        "ordering": ["-tasks:id"],
        "hiddenColumns": HIDDEN,
        "columnsWidth": {"tasks:id": 200},
    }
    fake = FakeList([{"id": 4, "data": data}])
    with FakeServer(fake) as server, connect(server.url, TOKEN) as client:
        assert ensure_tab(client, 1, "QA", FILTERS, ORDER, ["tasks:id"]) == 4
    assert fake.items == {4: {"id": 4, "data": data}}


def test_a_tab_of_the_title_gets_the_filter_it_lacks_and_keeps_the_rest():
    data = {
        "title": "QA",
        "filters": {"conjunction": "and", "items": [THEIRS]},
        "hiddenColumns": HIDDEN,
    }
    fake = FakeList([{"id": 4, "data": data}])

    def answer(asked):
        return {"columns": []} if asked.path.startswith("/api/dm/columns") else fake(asked)

    with FakeServer(answer) as server, connect(server.url, TOKEN) as client:
        assert ensure_tab(client, 1, "QA", FILTERS, ORDER, ["tasks:id"]) == 4
    now = fake.items[4]["data"]
    assert now["filters"] == {"conjunction": "and", "items": [THEIRS, *FILTERS]}
    assert (now["ordering"], now["hiddenColumns"]) == (ORDER, HIDDEN)


def test_a_tab_that_does_not_go_is_reported():
    stays = FakeList([tab(2, "QA", *FILTERS)])

    def answer(asked):
        return Answer(204, b"") if asked.method == "DELETE" else stays(asked)

    with (
        FakeServer(answer) as server,
        connect(server.url, TOKEN) as client,
        pytest.raises(ServerError, match="still there"),
    ):
        remove_tab(client, 1, "QA", FILTERS)
