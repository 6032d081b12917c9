"""The functions and casts of CESQL 1.0, clause by clause (spec §3.5 and §3.7)."""

from tests.cesql.clauses import Row, check, rows


@rows(
    Row("3.7", "INT of a string", "INT('0340')", 340),
    Row("3.7", "INT of a negative string", "INT('-340')", -340),
    Row("3.7", "INT of an integer", "INT(speed)", 48),
    Row("3.7", "INT of true", "INT(wet)", 1),
    Row("3.7", "INT of false", "INT(dry)", 0),
    Row("3.7", "INT of a word", "INT('fast')", 0, "cast"),
    Row("3.7", "INT of a fraction", "INT('1.5')", 0, "cast"),
    Row("3.7", "INT of no characters", "INT(empty)", 0, "cast"),
    Row("3.7", "INT of more than 32 bits", "INT('3000000000')", 0, "cast"),
    Row("3.7", "BOOL of a word in any case", "BOOL('tRUE')", True),
    Row("3.7", "BOOL of the other word", 'BOOL("False")', False),
    Row("3.7", "BOOL of a boolean", "BOOL(dry)", False),
    Row("3.7", "BOOL of zero", "BOOL(0)", False),
    Row("3.7", "BOOL of any other integer", "BOOL(-speed)", True),
    Row("3.7", "BOOL of one", "BOOL(1)", True),
    Row("3.7", "BOOL of another word", "BOOL('yes')", False, "cast"),
    Row("3.7", "STRING of an integer", "STRING(-48)", "-48"),
    Row("3.7", "STRING of true", "STRING(wet)", "true"),
    Row("3.7", "STRING of false", "STRING(dry)", "false"),
    Row("3.7", "STRING of a string", "STRING(subject)", "Gate Two"),
    Row("3.7", "a cast inside of a cast", "LENGTH(lane + 100)", 3),
)
def test_what_a_cast_is_worth(row: Row) -> None:
    check(row)


@rows(
    Row("3.5.1", "LENGTH counts characters", "LENGTH('Tür 🚪')", 5),
    Row("3.5.1", "LENGTH of no characters", "LENGTH(empty)", 0),
    Row("3.5.1", "LENGTH casts an integer", "LENGTH(-48)", 3),
    Row("3.5.1", "LENGTH casts a boolean", "LENGTH(dry)", 5),
    Row("3.5.1", "CONCAT of several", "CONCAT(lane, '/', speed)", "12/48"),
    Row("3.5.1", "CONCAT of one", "CONCAT(wet)", "true"),
    Row("3.5.1", "CONCAT of none", "CONCAT()", ""),
    Row("3.5.1", "CONCAT_WS puts its first argument between", "CONCAT_WS('-', 1, 2, 3)", "1-2-3"),
    Row("3.5.1", "CONCAT_WS of one", "CONCAT_WS('-', 1)", "1"),
    Row("3.5.1", "CONCAT_WS of none", "CONCAT_WS('-')", ""),
    Row("3.5.1", "LOWER", "LOWER('GaTE Ü')", "gate ü"),
    Row("3.5.1", "UPPER", "UPPER('GaTE ü')", "GATE Ü"),
    Row("3.5.1", "TRIM takes space from both ends", "TRIM('  a  b ')", "a  b"),
    Row("3.5.1", "TRIM at the beginning", "TRIM('\t a')", "a"),
    Row("3.5.1", "TRIM at the end", "TRIM('a \n')", "a"),
    Row("3.5.1", "TRIM without space", "TRIM('a')", "a"),
    Row("3.5.1", "LEFT", "LEFT(id, 5)", "frame"),
    Row("3.5.1", "LEFT of nothing", "LEFT(id, 0)", ""),
    Row("3.5.1", "LEFT of more than there is", "LEFT(id, 80)", "frame-17"),
    Row("3.5.1", "LEFT of fewer than none", "LEFT(id, -1)", "frame-17", "functionEvaluation"),
    Row("3.5.1", "RIGHT", "RIGHT(id, 2)", "17"),
    Row("3.5.1", "RIGHT of nothing", "RIGHT(id, 0)", ""),
    Row("3.5.1", "RIGHT of more than there is", "RIGHT(id, 80)", "frame-17"),
    Row("3.5.1", "RIGHT of fewer than none", "RIGHT(id, -1)", "frame-17", "functionEvaluation"),
    Row("3.5.1", "SUBSTRING to the end", "SUBSTRING(id, 7)", "17"),
    Row("3.5.1", "SUBSTRING from the first", "SUBSTRING(id, 1)", "frame-17"),
    Row("3.5.1", "SUBSTRING from the last", "SUBSTRING(id, 8)", "7"),
    Row("3.5.1", "SUBSTRING from behind", "SUBSTRING(id, -2)", "17"),
    Row("3.5.1", "SUBSTRING from as far behind as it goes", "SUBSTRING(id, -8)", "frame-17"),
    Row("3.5.1", "SUBSTRING from zero", "SUBSTRING(id, 0)", ""),
    Row("3.5.1", "SUBSTRING from behind the end", "SUBSTRING(id, 9)", "", "functionEvaluation"),
    Row("3.5.1", "SUBSTRING from before the start", "SUBSTRING(id, -9)", "", "functionEvaluation"),
    Row("3.5.1", "SUBSTRING of a length", "SUBSTRING(id, 3, 3)", "ame"),
    Row("3.5.1", "SUBSTRING of a length from behind", "SUBSTRING(id, -5, 2)", "me"),
    Row("3.5.1", "SUBSTRING of more than there is", "SUBSTRING(id, 7, 99)", "17"),
    Row("3.5.1", "SUBSTRING of no length", "SUBSTRING(id, 7, 0)", ""),
    Row("3.5.1", "SUBSTRING from zero of a length", "SUBSTRING(id, 0, 2)", ""),
    Row(
        "3.5.1", "SUBSTRING of a negative length", "SUBSTRING(id, 1, -1)", "", "functionEvaluation"
    ),
    Row("3.5.1", "SUBSTRING too far, of a length", "SUBSTRING(id, 9, 1)", "", "functionEvaluation"),
    Row("3.5.1", "SUBSTRING too far behind", "SUBSTRING(id, -9, 1)", "", "functionEvaluation"),
    Row("3.5.2", "ABS of a positive", "ABS(speed)", 48),
    Row("3.5.2", "ABS of a negative", "ABS(-48)", 48),
    Row("3.5.2", "ABS of zero", "ABS(0)", 0),
    Row("3.5.2", "ABS casts a string", "ABS('-5')", 5),
    Row("3.5.2", "ABS of the least integer", "ABS(-2147483648)", 2147483647, "math"),
    Row("3.5", "a function that nobody defined", "SHOUT(id)", False, "missingFunction"),
    Row("3.5", "too few arguments", "CONCAT_WS()", False, "missingFunction"),
    Row("3.5", "too many arguments", "ABS(1, 2)", False, "missingFunction"),
    Row("3.5", "a number of arguments between two others", "LEFT(id)", False, "missingFunction"),
    Row("3.7", "an argument that cannot be cast", "LEFT(id, 'x')", "", "cast"),
)
def test_what_a_function_is_worth(row: Row) -> None:
    check(row)
