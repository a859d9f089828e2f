//! Where the kernel's fields lie: a walker over its type information (BTF).
//!
//! Only what the offsets need: structures and unions by name, their members (through anonymous
//! ones), values of enumerations and the number of a tracepoint's arguments. It is total: any bytes
//! give types or an error, never a panic.
//!
//! Format: <https://docs.kernel.org/bpf/btf.html>

use std::collections::HashMap;

/// The bytes are not the type information that this walker knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// No BTF header of the machine's byte order.
    #[error("not BTF: the header is missing or of another byte order")]
    Header,
    /// A part ends before it should.
    #[error("the type information is cut")]
    Cut,
    /// A kind of type that came after this program.
    #[error("type {id} is of the unknown kind {kind}")]
    Kind {
        /// Number of the type.
        id: u32,
        /// Its kind.
        kind: u32,
    },
}

const MAGIC: u32 = 0xeb9f;
const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Deepest chain of anonymous members, modifiers or typedefs that is followed.
const MAX_DEPTH: u32 = 16;

/// Number of a type; 0 is `void`.
pub type Id = u32;

/// The types of one kernel.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Start of each type in `types`, from number 1.
    starts: Vec<u32>,
    /// Structures, unions, enumerations and typedefs by name; the first of each.
    named: HashMap<&'a [u8], Id>,
}

/// The fixed part of a type.
struct Type<'a> {
    name: u32,
    kind: u32,
    kind_flag: bool,
    vlen: u32,
    /// Size in bytes, or the type referred to.
    size_or_type: u32,
    /// What follows, up to the end of all types.
    rest: &'a [u8],
}

/// A member that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// From the start of the structure, bytes.
    pub offset: u32,
    /// The member's type.
    pub type_id: Id,
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

impl<'a> Btf<'a> {
    /// Indexes the types.
    ///
    /// # Errors
    ///
    /// The bytes are not BTF, are cut, or hold a kind of type that is not known.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let header = |at| word(bytes, at).ok_or(BtfError::Header);
        if header(0)? & 0xffff != MAGIC {
            return Err(BtfError::Header);
        }
        let part = |offset, length| {
            let start = header(4)?.checked_add(header(offset)?);
            let end = start.and_then(|start| start.checked_add(word(bytes, length)?));
            let range = start.zip(end).ok_or(BtfError::Cut)?;
            bytes
                .get(range.0 as usize..range.1 as usize)
                .ok_or(BtfError::Cut)
        };
        let mut btf = Self {
            types: part(8, 12)?,
            strings: part(16, 20)?,
            starts: Vec::new(),
            named: HashMap::new(),
        };
        btf.index()?;
        Ok(btf)
    }

    fn index(&mut self) -> Result<(), BtfError> {
        // A type of the kernel's takes some 23 bytes.
        self.starts.reserve(self.types.len() / 20);
        self.named.reserve(self.types.len() / 200);
        let mut at = 0;
        while at < self.types.len() {
            let id = self.starts.len() as u32 + 1;
            let kind = self.read(at).ok_or(BtfError::Cut)?;
            let vlen = kind.vlen as usize;
            let extra = match kind.kind {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => 12 * vlen,
                ENUM | FUNC_PROTO => 8 * vlen,
                PTR | 7 | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | 16 | TYPE_TAG => 0,
                kind => return Err(BtfError::Kind { id, kind }),
            };
            if kind.rest.len() < extra {
                return Err(BtfError::Cut);
            }
            if matches!(kind.kind, STRUCT | UNION | ENUM | ENUM64 | TYPEDEF) && kind.name != 0 {
                let name = self.string(kind.name).ok_or(BtfError::Cut)?;
                self.named.entry(name).or_insert(id);
            }
            self.starts.push(at as u32);
            at += 12 + extra;
        }
        Ok(())
    }

    fn read(&self, at: usize) -> Option<Type<'a>> {
        let info = word(self.types, at.checked_add(4)?)?;
        Some(Type {
            name: word(self.types, at)?,
            kind: info >> 24 & 0x1f,
            kind_flag: info >> 31 != 0,
            vlen: info & 0xffff,
            size_or_type: word(self.types, at.checked_add(8)?)?,
            rest: self.types.get(at.checked_add(12)?..)?,
        })
    }

    fn get(&self, id: Id) -> Option<Type<'a>> {
        let start = *self.starts.get((id as usize).checked_sub(1)?)?;
        self.read(start as usize)
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let tail = self.strings.get(offset as usize..)?;
        tail.split(|&byte| byte == 0).next()
    }

    /// The type of that name, followed through typedefs and qualifiers.
    pub fn find(&self, name: &str) -> Option<Id> {
        self.resolve(*self.named.get(name.as_bytes())?)
    }

    fn resolve(&self, mut id: Id) -> Option<Id> {
        for _ in 0..MAX_DEPTH {
            let found = self.get(id)?;
            match found.kind {
                TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG => id = found.size_or_type,
                _ => return Some(id),
            }
        }
        None
    }

    /// Size of a structure or union, bytes.
    pub fn size(&self, id: Id) -> Option<u32> {
        let found = self.get(self.resolve(id)?)?;
        matches!(found.kind, STRUCT | UNION).then_some(found.size_or_type)
    }

    /// The member of that name in a structure or union, or in an anonymous one within it.
    pub fn member(&self, id: Id, name: &str) -> Option<Member> {
        self.member_at(id, name.as_bytes(), 0)
    }

    fn member_at(&self, id: Id, name: &[u8], depth: u32) -> Option<Member> {
        if depth > MAX_DEPTH {
            return None;
        }
        let outer = self.get(self.resolve(id)?)?;
        if !matches!(outer.kind, STRUCT | UNION) {
            return None;
        }
        for index in 0..outer.vlen as usize {
            let member_name = word(outer.rest, 12 * index)?;
            let type_id = word(outer.rest, 12 * index + 4)?;
            let place = word(outer.rest, 12 * index + 8)?;
            let bits = if outer.kind_flag {
                place & 0xff_ffff
            } else {
                place
            };
            let found = if member_name == 0 {
                self.member_at(type_id, name, depth + 1)
            } else if self.string(member_name) == Some(name) {
                Some(Member { offset: 0, type_id })
            } else {
                None
            };
            if let Some(found) = found {
                return Some(Member {
                    offset: found.offset.checked_add(bits / 8)?,
                    ..found
                });
            }
        }
        None
    }

    /// The element type of an array type; `None` for any other type.
    pub fn element(&self, id: Id) -> Option<Id> {
        let array = self.get(self.resolve(id)?)?;
        (array.kind == ARRAY).then(|| word(array.rest, 0))?
    }

    /// The value of a name in an enumeration.
    pub fn enumerator(&self, enumeration: &str, name: &str) -> Option<u32> {
        let found = self.get(self.find(enumeration)?)?;
        let stride = match found.kind {
            ENUM => 8,
            ENUM64 => 12,
            _ => return None,
        };
        (0..found.vlen as usize)
            .find(|index| {
                word(found.rest, stride * index).and_then(|offset| self.string(offset))
                    == Some(name.as_bytes())
            })
            .and_then(|index| word(found.rest, stride * index + 4))
    }

    /// The types of a raw tracepoint's arguments.
    ///
    /// The kernel names the prototype `btf_trace_NAME`, with its own `void *` before the arguments.
    pub fn tracepoint(&self, name: &str) -> Option<Vec<Id>> {
        let pointer = self.get(self.find(&format!("btf_trace_{name}"))?)?;
        if pointer.kind != PTR {
            return None;
        }
        let prototype = self.get(self.resolve(pointer.size_or_type)?)?;
        if prototype.kind != FUNC_PROTO {
            return None;
        }
        (1..prototype.vlen as usize)
            .map(|index| word(prototype.rest, 8 * index + 4))
            .collect()
    }

    /// The number of a function. Slow: looks through all types.
    pub fn function(&self, name: &str) -> Option<Id> {
        (1..=self.starts.len() as Id).find(|&id| {
            self.get(id).is_some_and(|found| {
                found.kind == FUNC && self.string(found.name) == Some(name.as_bytes())
            })
        })
    }

    /// Whether anything has that name, a function for one. Slow: looks through all names.
    #[cfg(target_arch = "x86_64")]
    pub fn has_name(&self, name: &str) -> bool {
        self.strings
            .split(|&byte| byte == 0)
            .any(|found| found == name.as_bytes())
    }

    /// Whether the type is a pointer.
    pub fn is_pointer(&self, id: Id) -> bool {
        self.resolve(id)
            .and_then(|id| self.get(id))
            .is_some_and(|found| found.kind == PTR)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Builds the type information of a small kernel.
    #[derive(Default)]
    struct Builder {
        types: Vec<u8>,
        strings: Vec<u8>,
    }

    impl Builder {
        fn string(&mut self, text: &str) -> u32 {
            if self.strings.is_empty() {
                self.strings.push(0);
            }
            if text.is_empty() {
                return 0;
            }
            let offset = self.strings.len() as u32;
            self.strings.extend(text.as_bytes());
            self.strings.push(0);
            offset
        }

        fn add(&mut self, name: &str, kind: u32, vlen: u32, size: u32, extra: &[u32]) {
            let name = self.string(name);
            for word in [name, kind << 24 | vlen, size].iter().chain(extra) {
                self.types.extend(word.to_ne_bytes());
            }
        }

        fn finish(&self) -> Vec<u8> {
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            let mut bytes = Vec::new();
            for word in [MAGIC | 1 << 16, 24, 0, types, types, strings] {
                bytes.extend(word.to_ne_bytes());
            }
            bytes.extend(&self.types);
            bytes.extend(&self.strings);
            bytes
        }
    }

    #[test]
    fn members_of_anonymous_unions_and_through_typedefs_are_found() {
        let mut types = Builder::default();
        types.add("int", INT, 0, 4, &[32]);
        let (a, b) = (types.string("a"), types.string("b"));
        // 2: union { int a; int b; }
        types.add("", UNION, 2, 4, &[a, 1, 0, b, 1, 0]);
        let first = types.string("first");
        // 3: struct outer { int first; <anonymous at 8> }
        types.add("outer", STRUCT, 2, 12, &[first, 1, 0, 0, 2, 64]);
        types.add("outer_t", TYPEDEF, 0, 3, &[]);
        let bytes = types.finish();
        let btf = Btf::parse(&bytes).expect("sound");
        let id = btf.find("outer_t").expect("found");
        assert_eq!(btf.size(id), Some(12));
        assert_eq!(
            btf.member(id, "b"),
            Some(Member {
                offset: 8,
                type_id: 1
            })
        );
        assert_eq!(btf.member(id, "c"), None);
        for length in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn types_that_refer_to_themselves_end() {
        let mut types = Builder::default();
        types.add("loop", TYPEDEF, 0, 1, &[]);
        // 2: a structure whose anonymous member is itself
        types.add("self", STRUCT, 1, 8, &[0, 2, 0]);
        let bytes = types.finish();
        let btf = Btf::parse(&bytes).expect("sound");
        assert_eq!(btf.find("loop"), None);
        let id = btf.find("self").expect("found");
        assert_eq!(btf.member(id, "x"), None);
    }

    #[test]
    fn an_unknown_kind_of_type_is_an_error() {
        let mut types = Builder::default();
        types.add("new", 30, 0, 0, &[]);
        assert_eq!(
            Btf::parse(&types.finish()).err(),
            Some(BtfError::Kind { id: 1, kind: 30 })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_types_or_an_error(
            types in proptest::collection::vec(any::<u32>(), 0..200),
            strings in proptest::collection::vec(any::<u8>(), 0..40),
            raw in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let _ = Btf::parse(&raw);
            let builder = Builder {
                // Mostly known kinds with few members, to get beyond the first type.
                types: types.iter().flat_map(|word| (word & 0x1300_0007).to_ne_bytes()).collect(),
                strings,
            };
            let bytes = builder.finish();
            if let Ok(btf) = Btf::parse(&bytes) {
                for id in 0..=btf.starts.len() as u32 + 1 {
                    let _ = (btf.size(id), btf.member(id, "a"), btf.element(id), btf.is_pointer(id));
                }
                let _ = (btf.find("a"), btf.enumerator("a", "b"), btf.tracepoint("x"));
                crate::kernel::offsets::Layout::resolve(&btf);
            }
        }
    }
}
