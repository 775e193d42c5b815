"""What there is on a Docker Engine, so that what a test has made can be told from what was there, and be removed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

from tests.neighbours.docker import Docker

_MADE_BY_USERS = quote(json.dumps({"type": ["custom"]}))


@dataclass(frozen=True, slots=True)
class Things:
    """Containers, networks, volumes, images: each by the path of the API that removes it, in an order that works."""

    paths: tuple[str, ...]

    @classmethod
    def of(cls, docker: Docker) -> Things:
        """Look."""
        containers = docker.api("GET", "/containers/json?all=1")
        networks = docker.api("GET", f"/networks?filters={_MADE_BY_USERS}")
        volumes = docker.api("GET", "/volumes")["Volumes"] or ()
        images = docker.api("GET", "/images/json?all=1")
        names = [name for image in images for name in image["RepoTags"] or () if name != "<none>:<none>"]
        parents = {image["ParentId"] for image in images}
        return cls(
            (
                *(f"/containers/{found['Id']}?force=1&v=1" for found in containers),
                *(f"/networks/{found['Id']}" for found in networks),
                *(f"/volumes/{quote(found['Name'])}?force=1" for found in volumes),
                *(f"/images/{quote(name, safe='/:')}" for name in names),
                *(f"/images/{found['Id']}?force=1" for found in images if found["Id"] not in parents),
            )
        )

    def remove_newer(self, docker: Docker) -> None:
        """Remove from the engine whatever is there now and was not then; raises AssertionError where that fails."""
        while newer := [path for path in Things.of(docker).paths if path not in self.paths]:
            docker.api("DELETE", newer[0], seconds=60)
