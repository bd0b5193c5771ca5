//! The canonical form of a value: every kind with a tag and a length, maps sorted by key, whole numbers by value.

use crate::codec::put_varint;
use serde::ser::{self, Serialize};
use std::fmt;

const NONE: u8 = 0;
const BOOL: u8 = 1;
const WHOLE: u8 = 2;
const FLOAT: u8 = 3;
const TEXT: u8 = 4;
const BYTES: u8 = 5;
const LIST: u8 = 6;
const MAP: u8 = 7;

pub(super) fn form<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Refused> {
    value.serialize(Form)
}

/// What a value's own `Serialize` says when it refuses.
#[derive(Debug)]
pub(super) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

fn whole(value: i128) -> Vec<u8> {
    let mut out = vec![WHOLE];
    out.extend_from_slice(&value.to_le_bytes());
    out
}

fn tagged(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    put_varint(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    let mut out = vec![LIST];
    put_varint(&mut out, items.len() as u64);
    out.extend(items.iter().flatten());
    out
}

fn map(mut entries: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    entries.sort_unstable();
    let mut out = vec![MAP];
    put_varint(&mut out, entries.len() as u64);
    for (key, value) in entries {
        out.extend(key);
        out.extend(value);
    }
    out
}

/// A variant with content is a map of one entry, as in JSON.
fn variant(name: &str, content: Vec<u8>) -> Vec<u8> {
    map(vec![(tagged(TEXT, name.as_bytes()), content)])
}

struct Form;

macro_rules! whole_numbers {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<Vec<u8>, Refused> {
            Ok(whole(value.into()))
        }
    )*};
}

impl ser::Serializer for Form {
    type Ok = Vec<u8>;
    type Error = Refused;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    whole_numbers!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64);
    whole_numbers!(serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);
    whole_numbers!(serialize_i128: i128);

    fn serialize_u128(self, value: u128) -> Result<Vec<u8>, Refused> {
        match i128::try_from(value) {
            Ok(value) => Ok(whole(value)),
            Err(_) => Ok(tagged(WHOLE, &value.to_le_bytes())),
        }
    }

    fn serialize_bool(self, value: bool) -> Result<Vec<u8>, Refused> {
        Ok(vec![BOOL, u8::from(value)])
    }

    fn serialize_f32(self, value: f32) -> Result<Vec<u8>, Refused> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<Vec<u8>, Refused> {
        // Up to here a float is the whole number that it seems to be.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() <= EXACT {
            return Ok(whole(value as i128));
        }
        let value = if value.is_nan() { f64::NAN } else { value };
        Ok([&[FLOAT][..], &value.to_bits().to_le_bytes()].concat())
    }

    fn serialize_char(self, value: char) -> Result<Vec<u8>, Refused> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<Vec<u8>, Refused> {
        Ok(tagged(TEXT, value.as_bytes()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Vec<u8>, Refused> {
        Ok(tagged(BYTES, value))
    }

    fn serialize_none(self) -> Result<Vec<u8>, Refused> {
        Ok(vec![NONE])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Vec<u8>, Refused> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Vec<u8>, Refused> {
        Ok(vec![NONE])
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Vec<u8>, Refused> {
        Ok(vec![NONE])
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<Vec<u8>, Refused> {
        self.serialize_str(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Vec<u8>, Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Vec<u8>, Refused> {
        Ok(variant(name, value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items, Refused> {
        Ok(Items::default())
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, Refused> {
        Ok(Items::default())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, Refused> {
        Ok(Items::default())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Items, Refused> {
        Ok(Items { variant: Some(name), items: Vec::new() })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, Refused> {
        Ok(Entries::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Entries, Refused> {
        Ok(Entries::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Entries, Refused> {
        Ok(Entries { variant: Some(name), ..Entries::default() })
    }
}

#[derive(Default)]
struct Items {
    variant: Option<&'static str>,
    items: Vec<Vec<u8>>,
}

impl Items {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.items.push(value.serialize(Form)?);
        Ok(())
    }

    fn done(self) -> Vec<u8> {
        let content = list(&self.items);
        match self.variant {
            Some(name) => variant(name, content),
            None => content,
        }
    }
}

macro_rules! items {
    ($($trait:ident: $method:ident),*) => {$(
        impl ser::$trait for Items {
            type Ok = Vec<u8>;
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                self.push(value)
            }

            fn end(self) -> Result<Vec<u8>, Refused> {
                Ok(self.done())
            }
        }
    )*};
}
items!(SerializeSeq: serialize_element, SerializeTuple: serialize_element);
items!(SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field);

#[derive(Default)]
struct Entries {
    variant: Option<&'static str>,
    key: Vec<u8>,
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entries {
    fn push<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Refused> {
        self.pairs.push((tagged(TEXT, key.as_bytes()), value.serialize(Form)?));
        Ok(())
    }

    fn done(self) -> Vec<u8> {
        let content = map(self.pairs);
        match self.variant {
            Some(name) => variant(name, content),
            None => content,
        }
    }
}

impl ser::SerializeMap for Entries {
    type Ok = Vec<u8>;
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.key = key.serialize(Form)?;
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let key = std::mem::take(&mut self.key);
        self.pairs.push((key, value.serialize(Form)?));
        Ok(())
    }

    fn end(self) -> Result<Vec<u8>, Refused> {
        Ok(self.done())
    }
}

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Entries {
            type Ok = Vec<u8>;
            type Error = Refused;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Refused> {
                self.push(key, value)
            }

            fn end(self) -> Result<Vec<u8>, Refused> {
                Ok(self.done())
            }
        }
    )*};
}
fields!(SerializeStruct, SerializeStructVariant);
