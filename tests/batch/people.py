"""Annotators of the test server, each with a token of their own, and what they draw."""

from __future__ import annotations

import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass

from segstudio.client import connect
from segstudio.errors import ServerError

CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="box" toName="image">'
    '<Label value="Car" background="#ff0000"/><Label value="Van"/><Label value="Tree"/>'
    "</RectangleLabels></View>"
)


_RUN = uuid.uuid4().hex[:8]
# A person gets one token, once: later tests of the same process take it from here.
_TOKENS: dict[str, str] = {}


@dataclass(frozen=True)
class Person:
    """An annotator: id, a client that is logged in as them."""

    id: int
    email: str
    client: object

    def next_task(self, project_id):
        """The task that the labelling stream offers, or None when there is no more."""
        try:
            found = self.client.get_json(f"/api/projects/{project_id}/next")
        except ServerError as error:
            if error.status == 404:
                return None
            raise
        return int(found["id"])

    def submit(self, task_id, *regions):
        """Annotate the task; returns the annotation's id."""
        body = {"result": list(regions), "lead_time": 10}
        path = f"/api/tasks/{task_id}/annotations/"
        return int(self.client.request("POST", path, json=body).json()["id"])

    def redraw(self, annotation_id, *regions):
        """Change an annotation."""
        path = f"/api/annotations/{annotation_id}/"
        self.client.request("PATCH", path, json={"result": list(regions)})


@contextmanager
def people(label_studio, *names):
    """The annotators of these names, signed up where they are new."""
    server = label_studio.server
    emails = [f"{name}-{_RUN}@example.org" for name in names]
    accounts = server.ensure_users([one for one in emails if one not in _TOKENS])
    for account in accounts:
        with closing(server.log_in(account)) as session:
            headers = {"X-CSRFToken": session.cookies["csrftoken"], "Referer": server.url}
            made = session.post("/api/token/", headers=headers).raise_for_status()
            _TOKENS[account.email] = made.json()["token"]
    found = []
    for email in emails:
        client = connect(server.url, _TOKENS[email])
        number = int(client.get_json("/api/current-user/whoami")["id"])
        found.append(Person(number, email, client))
    try:
        yield found
    finally:
        for person in found:
            person.client.close()


def box(label, x, y, width, height, region_id="r", size_px=100):
    """A rectangle in pixels of an image of `size_px` squared, as Label Studio stores it."""
    scale = 100 / size_px
    return {
        "id": f"{region_id}-{label}-{x}-{y}", "type": "rectanglelabels", "from_name": "box",
        "to_name": "image", "image_rotation": 0, "original_width": size_px,
        "original_height": size_px,
        "value": {"x": x * scale, "y": y * scale, "width": width * scale,
                  "height": height * scale, "rotation": 0, "rectanglelabels": [label]},
    }  # fmt: skip
