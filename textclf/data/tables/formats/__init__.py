"""Tables that are not delimited text: JSON, Parquet, Excel workbooks, folders of text files."""
