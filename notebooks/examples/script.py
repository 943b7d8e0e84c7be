"""An agent in a script: python script.py "What is 17 times 23?" """

import sys

from agentkit import AgentExecutor


def main(question: str) -> int:
    executor = AgentExecutor.from_model(
        "small",  # or "hf:ORG/NAME", "local:ORG/NAME", "http://localhost:8000"
        tools=["calculator"],
        max_iterations=6,
        max_execution_time=60,
        must_be_grounded=True,  # an answer that no tool confirms is none
        return_run=True,
    )
    result = executor.invoke({"input": question})
    print(result["output"])
    return 0 if result["run"]["stop_reason"] == "answer" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
