"""A database is known by what it is; who only uses one is none. What Docker says of it holds no password afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from homelab_agent.backup import databases, inspected
from homelab_agent.backup.inventory import Container, Identity, Mount


def container(image: str, **other: Any) -> Container:
    return Container("id", Identity("", "", "", "one"), image=image, image_id="", state="running", **other)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("postgres", "postgres"),
        ("postgres:16-alpine@sha256:00", "postgres"),
        ("house:5000/library/postgres:16", "postgres"),
        ("timescale/timescaledb:latest-pg16", "postgres"),
        ("timescale/timescaledb-ha:pg16", "postgres"),
        ("postgis/postgis", "postgres"),
        ("pgvector/pgvector:pg17", "postgres"),
        ("ghcr.io/immich-app/postgres:14", "postgres"),
        ("bitnami/postgresql", "postgres"),
        ("mariadb:11", "mariadb"),
        ("mysql/mysql-server", "mariadb"),
        ("lscr.io/linuxserver/mariadb", "mariadb"),
        ("mongo:7", "mongodb"),
        ("mongodb/mongodb-community-server", "mongodb"),
        ("prometheuscommunity/postgres-exporter", None),
        ("prodrigestivill/postgres-backup-local", None),
        ("postgrest/postgrest", None),
        ("mongo-express", None),
        ("phpmyadmin", None),
        ("prom/mysqld-exporter", None),
        ("busybox", None),
    ],
)
def test_an_image_tells_by_its_last_name(image: str, kind: str | None) -> None:
    found = databases.recognise(container(image))
    assert (found.kind if found else None) == kind


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"programs": ["docker-entrypoint.sh", "mariadbd"]}, "mariadb"),
        ({"programs": ["postgres"]}, "postgres"),
        ({"variables": {"PGDATA": "/data"}}, "postgres"),
        ({"variables": {"POSTGRES_PASSWORD": ""}}, None),
        ({"variables": {"POSTGRES_PASSWORD": ""}, "ports": frozenset({"5432/tcp"})}, "postgres"),
        ({"variables": {"MONGO_INITDB_DATABASE": "x"}, "ports": frozenset({"27017/tcp"})}, "mongodb"),
        ({"labels": {"homelab-agent.backup.database": "mongodb"}, "programs": ["postgres"]}, "mongodb"),
        ({"labels": {"homelab-agent.backup.database": "none"}, "programs": ["postgres"]}, None),
        ({"labels": {"org.opencontainers.image.title": "MariaDB Database"}}, "mariadb"),
    ],
)
def test_what_it_runs_is_told_and_listens_on_tells_too(given: dict[str, Any], kind: str | None) -> None:
    found = databases.recognise(container("mine/own:1", **given))
    assert (found.kind if found else None) == kind


def test_whom_it_knows_and_where_it_keeps_its_files() -> None:
    found = databases.recognise(container("postgres", variables={"POSTGRES_USER": "shop", "PGDATA": "/pg/data"}))
    assert found is not None
    assert found.user == "shop"
    kept = {
        target: found.keeps_in(Mount("volume", "x", Path("/x"), target, writable=True))
        for target in ("/var/lib/postgresql", "/var/lib/postgresql/data", "/pg", "/pg/data", "/backups", "/etc/ssl")
    }
    assert kept == {
        "/var/lib/postgresql": True,
        "/var/lib/postgresql/data": True,
        "/pg": True,
        "/pg/data": True,
        "/backups": False,
        "/etc/ssl": False,
    }


def test_no_password_and_no_argument_is_kept() -> None:
    said = {
        "Id": "id",
        "Name": "/one",
        "Path": "docker-entrypoint.sh",
        "Args": ["mysqld", "--password=hidden"],
        "State": {"Status": "running", "Health": {"Status": "none"}},
        "Config": {
            "Env": [
                "MYSQL_ROOT_PASSWORD=hidden",
                "MYSQL_DATABASE=shop",
                "MYSQL_PASSWORD_FILE=/run/x",
                "PGPASSWORD=hidden",
                "POSTGRES_INITDB_ARGS=hidden",
                "MONGO_URL=mongodb://a:hidden@b",
                "SECRET=hidden",
                "MYSQL_USER=a=b",
            ],
            "Labels": None,
        },
        "Mounts": [{"Type": "tmpfs", "Destination": "/tmp", "RW": True}],
        "NetworkSettings": None,
    }
    found = inspected.container(said, {})
    assert "hidden" not in repr(found)
    assert found.variables == {
        "MYSQL_ROOT_PASSWORD": "",
        "MYSQL_DATABASE": "shop",
        "MYSQL_PASSWORD_FILE": "/run/x",
        "PGPASSWORD": "",
        "POSTGRES_INITDB_ARGS": "",
        "MONGO_URL": "",
        "MYSQL_USER": "a=b",
    }
    assert found.programs == ("docker-entrypoint.sh", "mysqld")
    assert (found.health, found.mounts, found.stop_seconds) == ("", (), 10)


@pytest.mark.parametrize(
    ("info", "word"),
    [
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=userns"]}, "userns-remap"),
        ({"SecurityOptions": ["name=rootless"]}, "rootless"),
        ({"DockerRootDir": "/var/snap/docker/common/var-lib-docker"}, "snap"),
        ({"OperatingSystem": "Docker Desktop"}, "virtual machine"),
    ],
)
def test_an_engine_whose_files_are_not_its_containers_is_named(info: dict[str, Any], word: str) -> None:
    assert word in inspected.refused(info)
    assert inspected.refused({"DockerRootDir": "/var/lib/docker", "SecurityOptions": ["name=cgroupns"]}) == ""


def test_composes_labels_are_read() -> None:
    assert inspected.depends_on("db:service_healthy:false,cache:service_started:true,plain") == {
        "db": "service_healthy",
        "cache": "service_started",
        "plain": "service_started",
    }
    assert inspected.depends_on("") == {}
    labels = {
        "com.docker.compose.project.config_files": "/srv/a/compose.yaml,/srv/a/more.yaml",
        "com.docker.compose.project.environment_file": "/srv/a/.env",
    }
    assert [path.name for path in inspected.compose_files(labels)] == ["compose.yaml", "more.yaml", ".env"]
