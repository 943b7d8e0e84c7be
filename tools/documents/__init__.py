"""Full-text search over the user's own files: SQLite FTS5, no server, no key, no network."""

from __future__ import annotations

from agentkit.tools.documents.tool import Documents, document_search, read_folder, with_documents

__all__ = ["Documents", "document_search", "read_folder", "with_documents"]
