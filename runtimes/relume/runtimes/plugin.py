"""vLLM's endpoint plugin `relume`: the routes that vLLM's server does not have.

| route | answers |
|---|---|
| `GET /startup` | the phases of this cold start; the engine's steps, and its running requests |
| `POST /v1/models/{model}:predict` | KServe's V1 protocol |
| `POST /v2/models/{model}/infer`, `GET /v2…` | the Open Inference Protocol |

vLLM calls `attach_router` when the engine answers and `init_state` shortly before it accepts; these
two calls are also how the cold-start clock knows, and when the gatekeeper is asked to go.
"""

from argparse import Namespace
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from relume.runtimes import internals
from relume.runtimes.gatekeeper import Gatekeeper
from relume.runtimes.phases import PROCESS
from relume.runtimes.protocols import live, routes

if TYPE_CHECKING:
    from vllm.engine.protocol import EngineClient


class RelumeEndpoints:
    """An `EndpointPlugin` of vLLM (`vllm.plugins.endpoint_plugins.interface`)."""

    name = "relume"
    required_tasks = None

    def attach_router(self, app: FastAPI) -> None:
        """Add our routes; vLLM has built its own by now, so the engine answers."""
        internals.read_http_as_we_do()
        PROCESS.engine_answers()
        app.router.routes.extend([Route("/startup", startup), Route("/livez", live), *routes()])

    async def init_state(
        self, engine_client: "EngineClient | None", state: State, args: Namespace
    ) -> None:
        """Keep what the routes need to know about the model, and open the gate."""
        state.relume_model, *further = args.served_model_name or [args.model]
        state.relume_further_names = tuple(further)
        state.relume_tasks = (
            frozenset(await engine_client.get_supported_tasks()) if engine_client else frozenset()
        )
        state.relume_cors = {
            "allow_origins": getattr(args, "allowed_origins", []),
            "allow_credentials": getattr(args, "allow_credentials", False),
        }
        PROCESS.server_answers()
        Gatekeeper.ask_to_go()


async def startup(request: Request) -> Response:
    """`GET /startup`: state, current phase, ms by phase, and what the engine has to do."""
    engine = getattr(request.app.state, "engine_client", None)
    return JSONResponse({**PROCESS.snapshot(), **_work(engine)})


def _work(engine: "EngineClient | None") -> dict[str, int]:
    """Steps and running requests; nothing where the engine tells of no step.

    That is so with --disable-log-stats, which makes no stat logger.
    """
    unfinished = getattr(engine, "get_num_unfinished_requests", None)
    if unfinished is None or not getattr(engine, "log_stats", False):
        return {}
    return {"steps": PROCESS.steps, "running": unfinished()}
