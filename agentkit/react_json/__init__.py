"""The ReAct-JSON dialect: prompt, parser, scratchpad, grammar. Pure functions of text."""
