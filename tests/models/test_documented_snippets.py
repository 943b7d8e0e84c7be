"""The snippets of ChatHuggingFace's own documentation with only their import lines changed.

The model is a tiny one that stands in the cache under the name they use.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from .conftest import build_llama, build_tokenizer

pytestmark = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")

ZEPHYR = """
{%- for message in messages %}
{%- if message.role == 'user' %}{{ '<|user|>\\n' + message.content + eos_token }}
{%- elif message.role == 'system' %}{{ '<|system|>\\n' + message.content + eos_token }}
{%- else %}{{ '<|assistant|>\\n' + message.content + eos_token }}{% endif %}{{ '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"""

PIPELINE = """
from agentkit.models import ChatHuggingFace, HuggingFacePipeline

llm = HuggingFacePipeline.from_model_id(
    model_id="HuggingFaceH4/zephyr-7b-beta",
    task="text-generation",
    pipeline_kwargs=dict(
        max_new_tokens=512,
        do_sample=False,
        repetition_penalty=1.03,
    ),
)

chat_model = ChatHuggingFace(llm=llm)
"""

QUANTIZED = """
from transformers import BitsAndBytesConfig

quantization_config = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_compute_dtype="float16",
    bnb_4bit_use_double_quant=True,
)

llm = HuggingFacePipeline.from_model_id(
    model_id="HuggingFaceH4/zephyr-7b-beta",
    task="text-generation",
    pipeline_kwargs=dict(
        max_new_tokens=512,
        do_sample=False,
        repetition_penalty=1.03,
    ),
    model_kwargs={"quantization_config": quantization_config},
)

chat_model = ChatHuggingFace(llm=llm)
"""

INVOKE = """
from langchain_core.messages import (
    HumanMessage,
    SystemMessage,
)

messages = [
    SystemMessage(content="You're a helpful assistant"),
    HumanMessage(
        content="What happens when an unstoppable force meets an immovable object?"
    ),
]

ai_msg = chat_model.invoke(messages)
print(ai_msg.content)
"""

INSPECT = """
print(chat_model.model_id)
print(repr(chat_model._to_chat_prompt(messages)))
"""

AGENT = """
from agentkit import AgentExecutor, load_tools
from agentkit.langchain import hub
from agentkit import format_log_to_str
from agentkit import (
    ReActJsonSingleInputOutputParser,
)
from agentkit import render_text_description

# setup tools
tools = load_tools(["serpapi", "llm-math"], llm=llm)

# setup ReAct style prompt
prompt = hub.pull("hwchase17/react-json")
prompt = prompt.partial(
    tools=render_text_description(tools),
    tool_names=", ".join([t.name for t in tools]),
)

# define the agent
chat_model_with_stop = chat_model.bind(stop=["\\nObservation"])
agent = (
    {
        "input": lambda x: x["input"],
        "agent_scratchpad": lambda x: format_log_to_str(x["intermediate_steps"]),
    }
    | prompt
    | chat_model_with_stop
    | ReActJsonSingleInputOutputParser()
)

# instantiate AgentExecutor
agent_executor = AgentExecutor(agent=agent, tools=tools, verbose=True)
"""

ASK = """
agent_executor.max_iterations, agent_executor.handle_parsing_errors = 2, True  # a random model would go on for long
print(agent_executor.invoke({"input": "Who is Leo DiCaprio's girlfriend?"})["output"])
"""


HOSTED = """
from langchain_core.messages import HumanMessage, SystemMessage

from agentkit.models import ChatHuggingFace, HuggingFaceHub

llm = HuggingFaceHub(
    repo_id="HuggingFaceH4/zephyr-7b-beta",
    task="text-generation",
    model_kwargs={
        "max_new_tokens": 512,
        "top_k": 30,
        "temperature": 0.1,
        "repetition_penalty": 1.03,
    },
)
chat_model = ChatHuggingFace(llm=llm)
messages = [SystemMessage("You're a helpful assistant"), HumanMessage("Hi")]
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    repository = home / "hub" / "models--HuggingFaceH4--zephyr-7b-beta"
    revision = "0" * 40
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["</s>"]})
    tokenizer.eos_token = "</s>"
    tokenizer.chat_template = ZEPHYR
    model = build_llama(tokenizer, hidden_size=64, intermediate_size=128, max_position_embeddings=4096)
    for each in (model, tokenizer):
        each.save_pretrained(repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    return home


def run(script: str, cache: Path) -> list[str]:
    threads = "import torch; torch.set_num_threads(1)\n"
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "SERPAPI_API_KEY": "none"}
    done = subprocess.run([sys.executable, "-c", threads + script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_pipeline_an_answer_an_agent_and_the_prompt_behind(cache: Path) -> None:
    *_, name, prompt = run(PIPELINE + INVOKE + AGENT + ASK + INSPECT, cache)
    assert name == "HuggingFaceH4/zephyr-7b-beta"
    assert eval(prompt) == (
        "<|system|>\nYou're a helpful assistant</s>\n<|user|>\nWhat happens when an unstoppable force meets an "
        "immovable object?</s>\n<|assistant|>\n"
    )


@pytest.mark.slow
def test_a_quantized_pipeline_and_the_prompt_behind_a_hosted_model(cache: Path) -> None:
    four_bits = "print(llm.model.config.quantization_config.load_in_4bit)"
    *_, loaded, name, prompt = run(PIPELINE + QUANTIZED + INVOKE + four_bits + HOSTED + INSPECT, cache)
    assert (loaded, name) == ("True", "HuggingFaceH4/zephyr-7b-beta")
    assert eval(prompt) == "<|system|>\nYou're a helpful assistant</s>\n<|user|>\nHi</s>\n<|assistant|>\n"
