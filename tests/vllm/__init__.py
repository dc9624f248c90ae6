"""Tests against the real vLLM engine: `make test-vllm`."""
