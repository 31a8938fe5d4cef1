"""Consistency checks for the record of any beam search."""

from __future__ import annotations

from pellucid.decoding.records.record import Record


def check_tree(record: Record, beams: int) -> None:
    """Check that parents precede their children, that each hypothesis has a consistent outcome, and that the path to
    the returned hypothesis gives the result."""
    tree = record.tree
    assert [node.id for node in tree] == list(range(len(tree)))
    assert (tree[0].parent, tree[0].token) == (None, None)
    parents = {node.parent for node in tree[1:]}
    for node in tree[1:]:
        assert node.parent is not None and 0 <= node.parent < node.id
        assert node.length == tree[node.parent].length + 1
        assert node.fate != "running"
        assert (node.fate == "extended") == (node.id in parents)
        assert (node.ended is None) == (node.fate == "extended")
        assert (node.final_score is not None) == (node.fate in ("finished", "displaced", "returned"))
        assert (node.rank is not None) == (node.fate == "returned")
        assert node.parent == 0 or node.group == tree[node.parent].group
    for length in range(1, max(node.length for node in tree) + 1):
        assert sum(node.length == length and node.fate in ("extended", "cut") for node in tree) <= beams
    path = record.path()
    assert tuple(node.token for node in path[1:]) == record.new_ids
    assert path[-1].fate == "returned"
    assert path[-1].finish_reason == record.finish_reason
    for node in path[:-1]:
        assert node.expansion is not None
