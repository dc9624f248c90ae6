"""A server of the Model Context Protocol with one tool, on standard input and output."""

from mcp.server.fastmcp import FastMCP

server = FastMCP("weather")


@server.tool()
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"Sunny in {city}"


if __name__ == "__main__":
    server.run()
