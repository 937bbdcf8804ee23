"""The routes: their shapes, their errors, and the page that is loaded without data."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from observe_world import World
from pydantic import BaseModel, TypeAdapter, ValidationError

from aios_eccos.errors import KernelError
from aios_eccos.observe.call_views import ExplainRequest, FeedbackRequest, RouteRequest
from aios_eccos.observe.frontier import read_frontier
from aios_eccos.observe.http import Route, page, routes


class Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def by_path(world: World) -> dict[str, Route]:
    return {route.path: route for route in routes(lambda: world.reader, Refused)}


def test_every_answer_is_of_its_shape_and_plain_json(world: World) -> None:
    world.calls(3)
    found = by_path(world)
    for path, route in found.items():
        arguments = {
            "/eccos/decisions/{id}": ("last",),
            "/eccos/feedback": (FeedbackRequest(id="last", correctness=1.0),),
            "/eccos/explain": (ExplainRequest(text="0.3"),),
            "/eccos/route": (RouteRequest(text="0.3", floor="95 %"),),
        }.get(path, ())
        answer = route.endpoint(*arguments)
        if route.answers is None:
            assert isinstance(answer, str) and answer
            continue
        assert isinstance(answer, route.answers) and isinstance(answer, BaseModel)
        text = answer.model_dump_json(by_alias=True)
        raw = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert re.fullmatch(r"aios-eccos/[a-z]+/1", raw["schema"])
        assert type(answer).model_validate(raw) == answer
        assert TypeAdapter(route.answers).json_schema()["properties"]["schema"]


@pytest.mark.parametrize("floor", ["1.5", "", "lots", "200 %", "nan", "-0.1"])
def test_what_is_no_floor_is_refused_with_the_body(floor: str) -> None:
    with pytest.raises(ValidationError, match="floor"):
        RouteRequest(text="0.3", floor=floor)


def test_what_is_not_there_is_404_and_no_engine_503(world: World) -> None:
    found = by_path(world)
    with pytest.raises(Refused) as refused:
        found["/eccos/decisions/{id}"].endpoint("1-1")
    assert refused.value.status == 404

    def nobody() -> World:
        raise KernelError("the plugin serves no calls now")

    closed = {r.path: r for r in routes(nobody, Refused)}  # type: ignore[arg-type]
    with pytest.raises(Refused) as refused:
        closed["/eccos/status"].endpoint()
    assert refused.value.status == 503


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan"), "yes"])
def test_a_verdict_outside_0_to_1_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="correctness"):
        FeedbackRequest.model_validate({"id": "1-1", "correctness": bad})


def test_the_page_is_one_file_without_outside_resources() -> None:
    text = page()
    assert text.startswith("<!doctype html>")
    assert "default-src 'none'" in text
    links = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", text)
    assert all(link.startswith("data:") for link in links)
    urls = set(re.findall(r"https?://[^\"'`\s)]+", text))
    assert urls == {"http://www.w3.org/2000/svg"}
    assert "innerHTML" not in text  # names come from agents


def test_fastapi_serves_and_describes_them(world: World) -> None:
    fastapi = pytest.importorskip("fastapi")
    client_module = pytest.importorskip("fastapi.testclient")
    app = fastapi.FastAPI()
    for route in routes(lambda: world.reader, lambda s, r: fastapi.HTTPException(s, detail=r)):
        if route.answers is not None:
            app.add_api_route(
                route.path, route.endpoint, methods=[route.method], response_model=route.answers
            )
    world.call()
    client = client_module.TestClient(app)
    assert client.get("/eccos/status").json()["schema"] == "aios-eccos/status/1"
    assert client.get("/eccos/decisions?n=1").json()["decisions"][0]["agent"] == "writer"
    assert client.get("/eccos/decisions/9-9").status_code == 404
    assert client.post("/eccos/feedback", json={"id": "last", "correctness": 1}).status_code == 200
    assert client.post("/eccos/feedback", json={"id": "last", "correctness": 2}).status_code == 422
    described = client.get("/openapi.json").json()
    assert "StatusView" in described["components"]["schemas"]


def test_no_other_style_or_script_than_the_pages_own_may_run() -> None:
    text = page()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    # Neither is an attribute, which the policy would keep from being used.
    assert not re.search(r"\son\w+=|\sstyle=", text.split("<script>")[0])


def test_the_frontier_shows_where_the_calls_of_now_stand(world: World) -> None:
    before = world.reader.frontier()
    assert before.here is None and before.day is None
    assert [point.cost_usd for point in before.points] == sorted(p.cost_usd for p in before.points)
    assert {model.model for model in before.models} == {"small: 8b", "large"}
    world.calls(3)
    world.reader.feedback("last", 1.0)
    after = world.reader.frontier()
    assert after.here is not None
    assert after.points[0].cost_usd <= after.here.cost_usd <= after.points[-1].cost_usd
    assert after.points[0].success <= after.here.success <= after.points[-1].success
    assert after.day is not None and after.day.success == 1.0


def test_a_frontier_that_cannot_be_drawn_says_what_to_do(world: World) -> None:
    view = read_frontier(None, world.reader.status())
    assert not view.points
    assert "aios-eccos feedback" in view.note
