"""Pages of a listing, against botocore's own parser."""

from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

import botocore.parsers
import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgllie.storage.key_listing import page_of

OPERATION = botocore.session.get_session().get_service_model("s3").operation_model("ListObjectsV2")
NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult{namespace}>{gap}<Name>bucket</Name><Prefix>Key</Prefix><MaxKeys>1000</MaxKeys>{told}{gap}{contents}
<CommonPrefixes><Prefix>Contents</Prefix></CommonPrefixes></ListBucketResult>"""
CHARACTERS = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
TEXTS = st.text(CHARACTERS | st.sampled_from("\n\t\r &<>\"'%"), max_size=12)
OTHERS = st.sampled_from(
    [
        "<StorageClass>GLACIER</StorageClass>",
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified>",
        "<Owner><ID>id</ID><DisplayName>Key</DisplayName></Owner>",
        "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumAlgorithm>SHA256</ChecksumAlgorithm>",
        "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>",
    ]
)


def element(name, text):
    return f"<{name}>{escape(text, {chr(13): '&#13;'})}</{name}>"


@st.composite
def pages(draw):
    gap = draw(st.sampled_from(["", "\n", "\n  "]))
    contents = ""
    for _ in range(draw(st.integers(0, 4))):
        parts = [
            element("Key", draw(TEXTS)),
            element("Size", str(draw(st.integers(0, 2**50)))),
            element("ETag", draw(TEXTS)),
            *draw(st.sets(OTHERS)),
        ]
        contents += f"<Contents>{gap}{gap.join(draw(st.permutations(parts)))}</Contents>{gap}"
    told = draw(st.sampled_from(["", "<EncodingType>url</EncodingType>"]))
    told += draw(st.sampled_from(["", "<IsTruncated>true</IsTruncated>", "<IsTruncated>false</IsTruncated>"]))
    told += draw(st.just("") | st.builds(element, st.just("NextContinuationToken"), st.text("abc=/+&", min_size=1)))
    namespace = draw(st.sampled_from(["", NAMESPACE]))
    return PAGE.format(namespace=namespace, gap=gap, told=told, contents=contents).encode()


@given(pages())
def test_a_page_says_what_botocore_reads_in_it(body):
    answer = {"status_code": 200, "headers": {}, "body": body}
    theirs = botocore.parsers.create_parser("rest-xml").parse(answer, OPERATION.output_shape)
    ours = page_of(body)
    asked = ("Key", "Size", "ETag")
    assert ours["Contents"] == [{name: one[name] for name in asked} for one in theirs.get("Contents", [])]
    assert ours["IsTruncated"] == theirs.get("IsTruncated", False)
    for name in ("EncodingType", "NextContinuationToken"):
        assert ours.get(name) == theirs.get(name)


@pytest.mark.parametrize(
    "body",
    [
        b"<Error><Code>SlowDown</Code><Key>a</Key></Error>",
        b'<s3:ListBucketResult xmlns:s3="http://s3.amazonaws.com/doc/2006-03-01/"></s3:ListBucketResult>',
        b"<ListAllMyBucketsResult/>",
    ],
)
def test_what_is_no_page_is_left_to_botocore(body):
    assert page_of(body) is None


def test_half_a_page_is_no_page():
    with pytest.raises(ExpatError):
        page_of(b"<ListBucketResult><Contents><Key>a</Key></Contents>")
