"""What to write instead of constructs that a formula does not have."""

import ast

_IN_A_FORMULA = "has no use in an expression; remove it"
WHOLE_ARRAY = "the truth value of a whole array, which is ambiguous; write"
INSTEAD: dict[type[ast.AST], str] = {
    ast.If: "if decides once for all elements; write jnp.where(condition, a, b)",
    ast.IfExp: "a if c else b decides once for all elements; write jnp.where(c, a, b)",
    ast.While: "a while loop may never end; write the steps out",
    ast.BoolOp: f"'and' and 'or' need {WHOLE_ARRAY} (a) & (b), (a) | (b)",
    ast.Compare: f"a < b < c needs {WHOLE_ARRAY} (a < b) & (b < c)",
    ast.Not: f"not needs {WHOLE_ARRAY} ~condition",
    ast.JoinedStr: f"a formatted string {_IN_A_FORMULA}",
    ast.Try: "errors cannot be caught in an expression; remove try",
    ast.With: f"with {_IN_A_FORMULA}",
    ast.Assert: f"assert {_IN_A_FORMULA}",
    ast.ClassDef: f"a class {_IN_A_FORMULA}",
    ast.DictComp: "a comprehension of a dict cannot be converted; write names",
    ast.Dict: "a dict cannot be converted; give each value a name",
    ast.Starred: "* before an argument cannot be converted; write the arguments out",
    ast.MatMult: "@ mixes elements; write an expression per element",
}
_MIXES = "mixes elements, which an expression per element cannot; use mean, norm or max"
LACKING: dict[str, str] = {
    **dict.fromkeys(("quantile", "percentile", "sort", "argsort", "cumsum"), _MIXES),
    **dict.fromkeys(("dot", "matmul", "tensordot", "einsum", "outer", "inner"), _MIXES),
    **dict.fromkeys(("qr", "svd", "inv", "eigh", "convolve", "roll", "diff"), _MIXES),
    **dict.fromkeys(
        ("switch", "while_loop", "fori_loop", "scan"),
        "is a program; write nested jnp.where, or the steps out",
    ),
    **dict.fromkeys(("int32", "int64"), "makes integers; leave it out"),
}
