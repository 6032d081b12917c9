"""Made-up messages: each with the personal values in it, and some without any.

Card and bank numbers are the published test numbers; telephone numbers are from ranges that are
reserved for fiction or follow the numbering plan; nobody is meant.
"""

MESSAGES: list[tuple[str, dict[str, str]]] = [
    ("Write to anna.keller@example.com please.", {"anna.keller@example.com": "EMAIL"}),
    ("Mail: j+shop@mail.example.co.uk, thanks", {"j+shop@mail.example.co.uk": "EMAIL"}),
    ("(see o'neil_77@example.org)", {"o'neil_77@example.org": "EMAIL"}),
    ("to=max@müller.example; asap", {"max@müller.example": "EMAIL"}),
    ("Call me at +44 20 7946 0958 today.", {"+44 20 7946 0958": "PHONE"}),
    ("Tel. 030 901820, mornings", {"030 901820": "PHONE"}),
    ("My number is (212) 555-2368.", {"(212) 555-2368": "PHONE"}),
    ("phone 212-736-5000 ext. 3", {"212-736-5000": "PHONE"}),
    ("Rückruf bitte unter 0171 3920000", {"0171 3920000": "PHONE"}),
    ("+49 (0)89 636-48018 is the office", {"+49 (0)89 636-48018": "PHONE"}),
    ("Text 07700 900123 or 07911 123456", {"07911 123456": "PHONE"}),
    ("Numéro : +33 1 42 68 53 00", {"+33 1 42 68 53 00": "PHONE"}),
    ("Refund to DE89 3704 0044 0532 0130 00 please", {"DE89 3704 0044 0532 0130 00": "IBAN"}),
    ("IBAN: GB82WEST12345698765432.", {"GB82WEST12345698765432": "IBAN"}),
    ("fr14 2004 1010 0505 0001 3m02 606 is mine", {"fr14 2004 1010 0505 0001 3m02 606": "IBAN"}),
    ("konto NL91ABNA0417164300 bitte", {"NL91ABNA0417164300": "IBAN"}),
    ("AT61 1904 3002 3457 3201 and thanks", {"AT61 1904 3002 3457 3201": "IBAN"}),
    ("card 4242 4242 4242 4242 was charged twice", {"4242 4242 4242 4242": "CARD"}),
    ("Visa 4111111111111111 exp 04/30", {"4111111111111111": "CARD"}),
    ("amex 3782-822463-10005", {"3782-822463-10005": "CARD"}),
    ("Mastercard: 5555555555554444!", {"5555555555554444": "CARD"}),
    ("discover 6011-1111-1111-1117", {"6011-1111-1111-1117": "CARD"}),
    ("My SSN is 536-90-4399.", {"536-90-4399": "SSN"}),
    ("ssn 219-09-9998 on file", {"219-09-9998": "SSN"}),
    ("login from 203.0.113.42 failed", {"203.0.113.42": "IP"}),
    ("source 2001:db8::8a2e:370:7334, port 22", {"2001:db8::8a2e:370:7334": "IP"}),
    ("blocked: 198.51.100.7/32", {"198.51.100.7": "IP"}),
    ("My name is Priya Raman and I paid twice.", {"Priya Raman": "NAME"}),
    ("Mein Name ist Jürgen von Hagen.", {"Jürgen von Hagen": "NAME"}),
    ("It does not work.\n\nBest regards,\nTom O'Leary", {"Tom O'Leary": "NAME"}),
    ("Hilfe!\nMit freundlichen Grüßen\nSabine Groß-Lenz\n", {"Sabine Groß-Lenz": "NAME"}),
    ("Thanks\nMarta", {"Marta": "NAME"}),
    ("Please ask Mr. Ivanov about it.", {"Ivanov": "NAME"}),
    ("Frau Yılmaz hat angerufen.", {"Yılmaz": "NAME"}),
    # Names without anything that announces them: only a model finds these.
    ("I talked to Deborah Finch on Monday.", {"Deborah Finch": "NAME"}),
    ("Luca Moretti asked for the invoice.", {"Luca Moretti": "NAME"}),
    ("The account of Chen Wei is locked.", {"Chen Wei": "NAME"}),
    (
        "I am customer C-104233, mail k.braun@example.net, tel. +49 30 901820.",
        {"k.braun@example.net": "EMAIL", "+49 30 901820": "PHONE", "C-104233": "CUSTOMER"},
    ),
    (
        "Pay DE89370400440532013000 or card 4000 0566 5566 5556?",
        {"DE89370400440532013000": "IBAN", "4000 0566 5566 5556": "CARD"},
    ),
]

CLEAN = [
    "The export stops at 99 % and says error 0x80070057.",
    "Order 4711-2026 was to arrive on 2026-11-03 at 14:30:00.",
    "Version 10.4.2 of the app crashes; 10.4.1 worked.",
    "I paid 1,299.00 EUR on 12/05/2026 and 1299.00 again.",
    "Invoice RE-2026-000123, position 17, quantity 1000000.",
    "Tracking 1Z999AA10123456784 shows nothing.",
    "The build takes 00:12:33 instead of 3:10.",
    "Serial 8412 3345 9920 1182 0 is on the back.",
    "Please cancel my plan. Thanks!",
    "Use std::vector or Foo::bar, see section 2.1.3.4.",
]
